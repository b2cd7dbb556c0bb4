#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>


#include "common/table.h"

namespace loqal {
namespace plain {
#include "kernels/vec_plain-inl.h"
#include "kernels/functions-inl.h"
#include "kernels/formats-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/table-inl.h"
}  // namespace plain

const KernelTable* plain_table() {
  static const KernelTable table = plain::make_table("plain");
  return &table;
}
}  // namespace loqal
