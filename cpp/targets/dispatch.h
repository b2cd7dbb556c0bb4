// Which instruction sets this machine can run, best first.
#pragma once

#include <vector>

#include "kernels/table.h"

namespace loqal {
const std::vector<const KernelTable*>& usable_tables();
}
