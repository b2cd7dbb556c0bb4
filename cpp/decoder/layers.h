// The mixers of decoder layers, from the products before them to the one behind.
#pragma once

#include <vector>

#include "ops/attention.h"
#include "ops/delta.h"
#include "ops/linear.h"

namespace loqal {

// Whole mixers: products by `weights` behind a norm, the operation between, and the product by `out` added to h [T D].
// The arrays of rows and of results are scratch.
void delta_mixer(Cpu& cpu, float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                 DeltaArrays d, const StepArrays& step);
void attention_mixer(Cpu& cpu, float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                     AttentionArrays a, const StepArrays& step);

}  // namespace loqal
