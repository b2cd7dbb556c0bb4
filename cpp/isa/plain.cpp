#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "common/table.h"

namespace loqal {
namespace plain {
// The order matters: each file uses the ones above it.
// clang-format off
#include "kernels/vec_plain-inl.h"
#include "kernels/functions-inl.h"
#include "kernels/formats-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/table-inl.h"
// clang-format on
}  // namespace plain

const KernelTable* plain_table() {
  static const KernelTable table = plain::make_table("plain");
  return &table;
}
}  // namespace loqal
