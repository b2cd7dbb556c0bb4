// The packed forms of weights: panels of 16 output rows, rows in vector lanes.
#pragma once

namespace loqal {

// One row a layout. What it is, its sizes and how it is packed and unpacked stand in the header of its name. I8 is what
// formats with codebooks are decoded to.
#define LOQAL_LAYOUTS(row)                                                                                       \
  row(F32) row(F16) row(BF16) row(Q8_0) row(Q4_0) row(Q4_1) row(Q5_0) row(Q5_1) row(IQ4_NL) row(MXFP4) row(Q2_K) \
      row(Q3_K) row(Q4_K) row(Q5_K) row(Q6_K) row(IQ4_XS) row(I8)

enum class Layout : int {
#define LOQAL_ENUMERATOR(name) name,
  LOQAL_LAYOUTS(LOQAL_ENUMERATOR)
#undef LOQAL_ENUMERATOR
      Count
};

struct LayoutInfo {
  const char* name;
  int inputs;       // per packed group
  int file_bytes;   // of the block of a file that holds one row of a group; 0 where no file has this layout
  int group_bytes;  // of the packed group, for 16 rows
  bool quantized;   // takes quantized activations
};

const LayoutInfo& layout_info(Layout layout);

}  // namespace loqal
