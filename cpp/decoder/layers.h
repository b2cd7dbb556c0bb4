// The layers of a decoder as records, and the loop that runs a step through them. What a layer stands for is written
// operation by operation in src/loqal/ops/layers.py.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "ops/attention.h"
#include "ops/delta.h"
#include "ops/experts.h"
#include "ops/mlp.h"

namespace loqal {

// Weights and float32 arrays that live at least as long as the layers made of them. D is the width of the rows.
using WeightRef = std::shared_ptr<const Weight>;
using FloatsRef = std::shared_ptr<const float>;

struct AttentionMixer {
  WeightRef query_gate, key, value, out;  // [heads 2 head_dim, D], [kv_heads head_dim, D] twice, [D, heads head_dim]
  FloatsRef query_norm, key_norm;         // [head_dim]
  int heads, kv_heads, head_dim;
};

// C = (2 key_heads + value_heads) dim channels of the convolution, where dim is kDeltaHeadDim.
struct DeltaMixer {
  WeightRef qkv, z, beta, alpha, out;  // [C D], [value_heads dim, D], [value_heads D] twice, [D, value_heads dim]
  FloatsRef conv, a, dt_bias, norm;    // [kConvWidth C], [value_heads] twice, [dim]
  int key_heads, value_heads;
};

struct DenseMlp {
  WeightRef gate, up, down;  // [width D] twice, [D width]
};

// See Experts in ops/experts.h.
struct ExpertsMlp {
  WeightRef router, gate, up, down, shared_router, shared_gate, shared_up, shared_down;
  int64_t num_active;
};

// Half a layer: a norm [D], then what is added to the rows.
struct Block {
  FloatsRef norm;
  float eps;
  std::variant<AttentionMixer, DeltaMixer, DenseMlp, ExpertsMlp> part;
};

// What a mixer keeps between steps, for all sequences.
struct DeltaStore {
  float *tails, *states, *journals;  // see DeltaArrays
};
using MixerStore = std::variant<KvStore, DeltaStore>;

// What a step brings to every layer.
struct DecoderStep {
  StepArrays sequences;
  const float *cos, *sin;  // [T rotary_dim/2]
  int rotary_dim;
};

// Runs rows h [T D] through the blocks, in place. `stores` has one entry for every mixer, in their order.
void run_layers(Cpu& cpu, float* h, const std::vector<Block>& blocks, const std::vector<MixerStore>& stores,
                const DecoderStep& step);

}  // namespace loqal
