#include "ops/weight.h"

#include <algorithm>
#include <utility>

namespace loqal {

Weight::Weight(Layout l, int64_t e, int64_t r, int64_t k, const uint8_t* data, std::shared_ptr<void> o)
    : layout(l),
      experts(e),
      rows(r),
      inputs(k),
      panels(ceil_div(r, kRows)),
      panel_bytes(k / layout_info(l).inputs * layout_info(l).group_bytes),
      packed(data),
      owner(std::move(o)) {}

Weight allocate(Cpu& cpu, Layout layout, int64_t experts, int64_t rows, int64_t inputs) {
  Weight w(layout, experts, rows, inputs, nullptr, nullptr);
  const std::shared_ptr<uint8_t> piece = cpu.arena().take(w.num_bytes());
  w.packed = piece.get();
  w.owner = piece;
  return w;
}

namespace {

// Calls pack(offset of the panel's first row in the source, rows, panel) for every panel of a weight.
template <class Pack>
void pack_panels(Cpu& cpu, Weight& w, int64_t row_bytes, Pack pack) {
  auto* packed = const_cast<uint8_t*>(w.packed);
  cpu.pool().run(w.experts * w.panels, [&](int64_t i, int) {
    const int64_t expert = i / w.panels, first = i % w.panels * kRows;
    const int rows = static_cast<int>(std::min<int64_t>(kRows, w.rows - first));
    pack((expert * w.rows + first) * row_bytes, rows, packed + i * w.panel_bytes);
  });
}

}  // namespace

void pack_weight(Cpu& cpu, Weight& w, const uint8_t* source) {
  pack_panels(cpu, w, file_row_bytes(w.layout, w.inputs),
              [&](int64_t at, int rows, uint8_t* panel) { pack_panel(w.layout, source + at, rows, w.inputs, panel); });
}

void pack_codebook_weight(Cpu& cpu, Weight& w, const CodebookFormat& format, const Codebook& book,
                          const uint8_t* source) {
  pack_panels(cpu, w, w.inputs / kCodebookBlock * format.block_bytes, [&](int64_t at, int rows, uint8_t* panel) {
    pack_panel_codebook(format, book, source + at, rows, w.inputs, panel);
  });
}

}  // namespace loqal
