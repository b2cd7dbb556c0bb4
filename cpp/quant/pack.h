// From the rows of a file to panels of 16 rows in lanes. Lossless.
#pragma once

#include "common/table.h"

namespace loqal {

// Bytes of one row in the file, for layouts that are packed from the file's own blocks.
int64_t file_row_bytes(Layout layout, int64_t inputs);

// Packs one panel: `rows` (1..16) rows of `inputs` inputs at `source`; missing rows become zero weights.
void pack_panel(Layout layout, const uint8_t* source, int rows, int64_t inputs, uint8_t* panel);

// The same for int8 codes [rows inputs] with a float scale per 16 inputs.
void pack_panel_i8(const int8_t* codes, const float* scales, int rows, int64_t inputs, uint8_t* panel);

}  // namespace loqal
