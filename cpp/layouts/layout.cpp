#include "layouts/layout.h"

#include <cstddef>

namespace loqal {

const LayoutInfo& layout_info(Layout layout) {
  static const LayoutInfo infos[] = {
      {"F32", 1, 64, false},         {"F16", 1, 32, false},        {"BF16", 1, 32, false},
      {"Q8_0", 32, 32 + 512, true},  {"Q4_0", 32, 32 + 256, true}, {"Q4_1", 32, 64 + 256, true},
      {"Q5_0", 32, 352, true},       {"Q5_1", 32, 384, true},      {"IQ4_NL", 32, 32 + 256, true},
      {"MXFP4", 32, 16 + 256, true}, {"Q2_K", 256, 1344, true},    {"Q3_K", 256, 1824, true},
      {"Q4_K", 256, 2368, true},     {"Q5_K", 256, 2880, true},    {"Q6_K", 256, 3360, true},
      {"IQ4_XS", 256, 2208, true},   {"I8", 32, 128 + 512, true},
  };
  static_assert(sizeof infos / sizeof infos[0] == static_cast<size_t>(Layout::Count));
  return infos[static_cast<int>(layout)];
}

}  // namespace loqal
