#include "layouts/layout.h"

#include "layouts/plain.h"

namespace loqal {

const LayoutInfo& layout_info(Layout layout) {
  static constexpr LayoutInfo infos[] = {
#define LOQAL_INFO(name)                                                                              \
  {#name, plain_layouts::name::kInputs, plain_layouts::name::kFileBytes, plain_layouts::name::kBytes, \
   plain_layouts::name::kQuantized},
      LOQAL_LAYOUTS(LOQAL_INFO)
#undef LOQAL_INFO
  };
  static_assert(sizeof infos / sizeof infos[0] == static_cast<size_t>(Layout::Count));
  return infos[static_cast<int>(layout)];
}

}  // namespace loqal
