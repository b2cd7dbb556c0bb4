#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <immintrin.h>

#include "common/table.h"

namespace loqal {
namespace avx2 {
#include "kernels/vec_avx2-inl.h"
#include "kernels/functions-inl.h"
#include "kernels/formats-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/table-inl.h"
}  // namespace avx2

const KernelTable* avx2_table() {
  static const KernelTable table = avx2::make_table("avx2");
  return &table;
}
}  // namespace loqal
