#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <immintrin.h>

#include "common/table.h"

namespace loqal {
namespace avx512 {
#include "kernels/vec_avx512-inl.h"
#include "kernels/functions-inl.h"
#include "kernels/formats-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/table-inl.h"
}  // namespace avx512

const KernelTable* avx512_table() {
  static const KernelTable table = avx512::make_table("avx512");
  return &table;
}
}  // namespace loqal
