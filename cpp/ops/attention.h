// Gated attention between its projections.
#pragma once

#include "ops/cpu.h"
#include "ops/step.h"

namespace loqal {

// T rows of the step; H heads and Hkv key/value heads of head_dim.
struct AttentionArrays {
  const float* query_gate;             // [T H 2 head_dim]: the query of a head, then its gate
  const float *key, *value;            // [T Hkv head_dim]
  const float *query_norm, *key_norm;  // [head_dim]
  const float *cos, *sin;              // [T rotary_dim/2]
  KvStore kv;
  float* out;  // [T H head_dim]
  AttentionShape shape;
};

// Stores the keys and values of all rows, then attends from every row to its own sequence up to itself.
void gated_attention(Cpu& cpu, const AttentionArrays& a, const StepArrays& step);

}  // namespace loqal
