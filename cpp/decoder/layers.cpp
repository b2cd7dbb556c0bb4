#include "decoder/layers.h"

#include <deque>
#include <initializer_list>

namespace loqal {
namespace {

// The weights that make a mixer's rows of the residual.
std::vector<const Weight*> input_weights(const AttentionMixer& m) {
  return {m.query_gate.get(), m.key.get(), m.value.get()};
}

std::vector<const Weight*> input_weights(const DeltaMixer& m) {
  return {m.qkv.get(), m.z.get(), m.beta.get(), m.alpha.get()};
}

// The rows that a mixer reads, one array a product, and what it makes of them.
struct MixerRows {
  MixerRows(const std::vector<const Weight*>& weights, int64_t rows, int64_t inner) : out(rows * inner) {
    for (const Weight* w : weights) products.push_back({w, 0, blocks.emplace_back(rows * w->rows).data, false});
  }
  Scratch<float> out;
  std::deque<Scratch<float>> blocks;
  std::vector<Product> products;
};

void mix(Cpu& cpu, const MixerRows& mixed, const Norm& norm, const AttentionMixer& m, const KvStore& kv,
         const DecoderStep& step) {
  AttentionArrays a{};
  a.query_gate = mixed.products[0].y;
  a.key = mixed.products[1].y;
  a.value = mixed.products[2].y;
  a.query_norm = m.query_norm.get();
  a.key_norm = m.key_norm.get();
  a.cos = step.cos;
  a.sin = step.sin;
  a.kv = kv;
  a.out = mixed.out.data;
  a.shape = {m.heads, m.kv_heads, m.head_dim, step.rotary_dim, norm.eps};
  gated_attention(cpu, a, step.sequences);
}

void mix(Cpu& cpu, const MixerRows& mixed, const Norm& norm, const DeltaMixer& m, const DeltaStore& store,
         const DecoderStep& step) {
  DeltaArrays d{};
  d.qkv = mixed.products[0].y;
  d.z = mixed.products[1].y;
  d.beta = mixed.products[2].y;
  d.alpha = mixed.products[3].y;
  d.conv = m.conv.get();
  d.a = m.a.get();
  d.dt_bias = m.dt_bias.get();
  d.norm = m.norm.get();
  d.tails = store.tails;
  d.states = store.states;
  d.journals = store.journals;
  d.out = mixed.out.data;
  d.key_heads = m.key_heads;
  d.value_heads = m.value_heads;
  d.eps = norm.eps;
  gated_delta(cpu, d, step.sequences);
}

void run_mlp(Cpu& cpu, float* h, const Norm& norm, const DenseMlp& m, int64_t rows) {
  gated_mlp(cpu, h, h, rows, *m.gate, *m.up, *m.down, norm);
}

void run_mlp(Cpu& cpu, float* h, const Norm& norm, const ExpertsMlp& m, int64_t rows) {
  const Experts experts{m.router.get(),    m.gate.get(),          m.up.get(),
                        m.down.get(),      m.shared_router.get(), m.shared_gate.get(),
                        m.shared_up.get(), m.shared_down.get(),   m.num_active};
  routed_experts(cpu, h, h, rows, experts, norm);
}

}  // namespace

void run_layers(Cpu& cpu, float* h, const std::vector<Block>& blocks, const std::vector<MixerStore>& stores,
                const DecoderStep& step) {
  const int64_t rows = step.sequences.rows();
  auto store = stores.begin();
  for (const Block& block : blocks) {
    const Norm norm{block.norm.get(), block.eps};
    // A mixer: products of the normed residual, attention or the recurrence over them, and one product added to it.
    const auto mixer = [&](const auto& part, const auto& states) {
      const Weight& out = *part.out;
      const MixerRows mixed(input_weights(part), rows, out.inputs);
      linear(cpu, h, rows, out.rows, mixed.products, norm);
      mix(cpu, mixed, norm, part, states, step);
      linear(cpu, mixed.out.data, rows, out.inputs, {{&out, 0, h, true}});
    };
    if (const auto* attention = std::get_if<AttentionMixer>(&block.part))
      mixer(*attention, std::get<KvStore>(*store++));
    else if (const auto* delta = std::get_if<DeltaMixer>(&block.part)) mixer(*delta, std::get<DeltaStore>(*store++));
    else if (const auto* mlp = std::get_if<DenseMlp>(&block.part)) run_mlp(cpu, h, norm, *mlp, rows);
    else run_mlp(cpu, h, norm, std::get<ExpertsMlp>(block.part), rows);
  }
}

}  // namespace loqal
