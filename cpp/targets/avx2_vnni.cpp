#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace avx2_vnni {
#include "simd/vec_avx2-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace avx2_vnni

const KernelTable* avx2_vnni_table() {
  static const KernelTable table = avx2_vnni::make_table("avx2_vnni");
  return &table;
}
}  // namespace loqal
