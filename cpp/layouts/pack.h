// From the rows of a file to panels of 16 rows in lanes. Lossless.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/constants.h"
#include "layouts/layout.h"

namespace loqal {

// Bytes of one row in the file, for layouts that are packed from the file's own blocks.
int64_t file_row_bytes(Layout layout, int64_t inputs);

// Packs one panel: `rows` (1..16) rows of `inputs` inputs at `source`; missing rows become zero weights.
void pack_panel(Layout layout, const uint8_t* source, int rows, int64_t inputs, uint8_t* panel);

// A format whose codes name vectors of a codebook, in blocks of 256 values; packed as int8 codes.
constexpr int kCodebookBlock = 256;
struct Codebook {
  const int8_t *vectors, *signs;  // [num_vectors vector_len], [num_signs 8] of +1 and -1
};
struct CodebookBlock {
  uint64_t codes[kCodebookBlock / 8];  // eight int8 each
  float scales[kCodebookBlock / 16];
};
struct CodebookFormat {
  const char* name;
  int block_bytes, num_vectors, vector_len, num_signs;
  void (*read)(const uint8_t* block, const Codebook& book, CodebookBlock& out);
};
// Null when there is none of that name.
const CodebookFormat* find_codebook_format(const std::string& name);
void pack_panel_codebook(const CodebookFormat& format, const Codebook& book, const uint8_t* source, int rows,
                         int64_t inputs, uint8_t* panel);

}  // namespace loqal
