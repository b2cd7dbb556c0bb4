#pragma once

#include <nanobind/nanobind.h>

namespace loqal {

void bind_encode(nanobind::module_& m);

}  // namespace loqal
