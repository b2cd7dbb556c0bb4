// Linear weights as kernels read them: panels of 16 output rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "layouts/pack.h"
#include "ops/cpu.h"

namespace loqal {

// Raised whenever a packed layout changes, so that packed files of before are not used.
constexpr int kLayoutVersion = 1;

// One linear weight [rows inputs], or `experts` of them, as panels of 16 rows.
struct Weight {
  // `owner` keeps the panels.
  Weight(Layout layout, int64_t experts, int64_t rows, int64_t inputs, const uint8_t* packed,
         std::shared_ptr<void> owner);
  const uint8_t* panel(int64_t expert, int64_t index) const { return packed + (expert * panels + index) * panel_bytes; }
  bool quantized() const { return layout_info(layout).quantized; }
  int64_t expert_bytes() const { return panels * panel_bytes; }
  size_t num_bytes() const { return static_cast<size_t>(experts * expert_bytes()); }

  Layout layout;
  int64_t experts, rows, inputs, panels, panel_bytes;
  const uint8_t* packed;
  std::shared_ptr<void> owner;
};

// A weight whose panels are zero so far, for the functions below to fill.
Weight allocate(Cpu& cpu, Layout layout, int64_t experts, int64_t rows, int64_t inputs);

// Packs all panels of `w` from its rows as a file has them, uint8 [experts rows file_row_bytes(layout, inputs)].
void pack_weight(Cpu& cpu, Weight& w, const uint8_t* source);

// The same for a format with a codebook, into Layout::I8; a row of the source is whole blocks of the format.
void pack_codebook_weight(Cpu& cpu, Weight& w, const CodebookFormat& format, const Codebook& book,
                          const uint8_t* source);

}  // namespace loqal
