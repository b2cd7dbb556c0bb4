#include "decoder/layers.h"

#include <deque>

namespace loqal {

namespace {
// The rows that a mixer reads, and what it makes of them.
struct MixerRows {
  MixerRows(const std::vector<const Weight*>& weights, int64_t rows, int64_t inner) : out(rows * inner) {
    for (const Weight* w : weights) products.push_back({w, 0, blocks.emplace_back(rows * w->rows).data, false});
  }
  Scratch<float> out;
  std::deque<Scratch<float>> blocks;
  std::vector<Product> products;
};
}  // namespace

void delta_mixer(Cpu& cpu, float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                 DeltaArrays d, const StepArrays& step) {
  const int64_t rows = step.rows();
  const MixerRows mixed(weights, rows, out.inputs);
  linear(cpu, h, rows, out.rows, mixed.products, norm);
  d.qkv = mixed.products[0].y;
  d.z = mixed.products[1].y;
  d.beta = mixed.products[2].y;
  d.alpha = mixed.products[3].y;
  d.out = mixed.out.data;
  gated_delta(cpu, d, step);
  linear(cpu, mixed.out.data, rows, out.inputs, {{&out, 0, h, true}});
}

void attention_mixer(Cpu& cpu, float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                     AttentionArrays a, const StepArrays& step) {
  const int64_t rows = step.rows();
  const MixerRows mixed(weights, rows, out.inputs);
  linear(cpu, h, rows, out.rows, mixed.products, norm);
  a.query_gate = mixed.products[0].y;
  a.key = mixed.products[1].y;
  a.value = mixed.products[2].y;
  a.out = mixed.out.data;
  gated_attention(cpu, a, step);
  linear(cpu, mixed.out.data, rows, out.inputs, {{&out, 0, h, true}});
}

}  // namespace loqal
