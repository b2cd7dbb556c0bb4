// The packed forms of weights: one entry of the enum and one row of the table each.
#pragma once

namespace loqal {

// Packed weight layouts: panels of 16 output rows, rows in vector lanes. Sizes and contents in layouts/formats-inl.h.
enum class Layout : int {
  F32,
  F16,
  BF16,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  IQ4_NL,
  MXFP4,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_XS,
  I8,  // int8 codes with a float scale per 16 inputs: what rarer formats are decoded to
  Count
};

struct LayoutInfo {
  const char* name;
  int inputs;       // per packed group
  int group_bytes;  // for 16 rows
  bool quantised;   // takes quantised activations
};

const LayoutInfo& layout_info(Layout layout);

}  // namespace loqal
