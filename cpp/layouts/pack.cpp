#include "layouts/pack.h"

#include "layouts/plain.h"

namespace loqal {

int64_t file_row_bytes(Layout layout, int64_t inputs) {
  const LayoutInfo& info = layout_info(layout);
  return inputs / info.inputs * info.file_bytes;
}

void pack_panel(Layout layout, const uint8_t* source, int rows, int64_t inputs, uint8_t* panel) {
  plain_layouts::with_layout(layout, [&]<class F>(F) {
    if constexpr (!F::kQuantized) {
      F::write_panel(source, rows, inputs, panel);
    } else if constexpr (F::kFileBytes > 0) {
      const int64_t row_bytes = inputs / F::kInputs * F::kFileBytes;
      plain_layouts::FileBlocks blocks;
      std::memset(&blocks, 0, sizeof blocks);
      for (int64_t i = 0; i < inputs / F::kInputs; ++i, panel += F::kBytes) {
        for (int r = 0; r < rows; ++r) F::read_block(source + r * row_bytes + i * F::kFileBytes, r, blocks);
        F::write_group(blocks, panel);
      }
    }
  });
}

}  // namespace loqal
