#include <arm_neon.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace neon {
#include "simd/vec_neon-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace neon

const KernelTable* neon_table() {
  static const KernelTable table = neon::make_table("neon");
  return &table;
}
}  // namespace loqal
