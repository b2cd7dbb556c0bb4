#include <arm_neon.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace neon_i8mm {
#include "simd/vec_neon-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace neon_i8mm

const KernelTable* neon_i8mm_table() {
  static const KernelTable table = neon_i8mm::make_table("neon_i8mm");
  return &table;
}
}  // namespace loqal
