#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "common/table.h"

namespace loqal {
namespace avx2 {
// The order matters: each file uses the ones above it.
// clang-format off
#include "kernels/vec_avx2-inl.h"
#include "kernels/functions-inl.h"
#include "kernels/formats-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/table-inl.h"
// clang-format on
}  // namespace avx2

const KernelTable* avx2_table() {
  static const KernelTable table = avx2::make_table("avx2");
  return &table;
}
}  // namespace loqal
