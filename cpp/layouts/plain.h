// The layouts over the lanes of plain C++: for packing and for what is asked about them.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/float16.h"
#include "kernels/constants.h"
#include "layouts/iq4_levels.h"
#include "layouts/layout.h"

namespace loqal {
namespace plain_layouts {
#include "simd/vec_plain-inl.h"
// Over the lanes above.
#include "layouts/all-inl.h"
}  // namespace plain_layouts
}  // namespace loqal
