#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/float16.h"
#include "kernels/table.h"
#include "layouts/iq4_levels.h"

namespace loqal {
namespace plain {
#include "simd/vec_plain-inl.h"
// Over the lanes above.
#include "kernels/all-inl.h"
}  // namespace plain

const KernelTable* plain_table() {
  static const KernelTable table = plain::make_table("plain");
  return &table;
}
}  // namespace loqal
