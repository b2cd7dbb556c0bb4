#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "common/table.h"

namespace loqal {
namespace plain {
#include "kernels/vec_plain-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace plain

const KernelTable* plain_table() {
  static const KernelTable table = plain::make_table("plain");
  return &table;
}
}  // namespace loqal
