#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace avx512_novnni {
#include "simd/vec_avx512-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace avx512_novnni

const KernelTable* avx512_novnni_table() {
  static const KernelTable table = avx512_novnni::make_table("avx512_novnni");
  return &table;
}
}  // namespace loqal
