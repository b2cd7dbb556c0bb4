#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace avx512 {
#include "simd/vec_avx512-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace avx512

const KernelTable* avx512_table() {
  static const KernelTable table = avx512::make_table("avx512");
  return &table;
}
}  // namespace loqal
