// Gated DeltaNet between its projections.
#pragma once

#include <cstdint>

#include "ops/cpu.h"
#include "ops/step.h"

namespace loqal {

// T rows of the step, C = (2 key_heads + value_heads) dim channels of the convolution, where dim is kDeltaHeadDim.
struct DeltaArrays {
  const float *qkv, *z;       // [T C], [T value_heads dim]
  const float *beta, *alpha;  // [T value_heads]
  const float* conv;          // [kConvWidth C]
  const float *a, *dt_bias;   // [value_heads]
  const float* norm;          // [dim]
  float *tails, *states;      // [slots kConvTail C], [slots value_heads dim/kStateTile dim kStateTile]
  float* out;                 // [T value_heads dim]
  int key_heads, value_heads;
  float eps;
  float* journals = nullptr;  // [journals kJournalRows JournalRow]
};

// Runs every sequence's tokens through its state, applying pending journal rows first and copying the states that the
// step captures.
void gated_delta(Cpu& cpu, const DeltaArrays& d, const StepArrays& step);

}  // namespace loqal
