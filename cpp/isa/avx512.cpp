#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "common/table.h"

namespace loqal {
namespace avx512 {
// The order matters: each file uses the ones above it.
// clang-format off
#include "kernels/vec_avx512-inl.h"
#include "kernels/functions-inl.h"
#include "kernels/formats-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/table-inl.h"
// clang-format on
}  // namespace avx512

const KernelTable* avx512_table() {
  static const KernelTable table = avx512::make_table("avx512");
  return &table;
}
}  // namespace loqal
