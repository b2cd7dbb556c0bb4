#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace avx2 {
#include "simd/vec_avx2-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace avx2

const KernelTable* avx2_table() {
  static const KernelTable table = avx2::make_table("avx2");
  return &table;
}
}  // namespace loqal
