#include "ops/mlp.h"

#include <utility>

#include "ops/float_gemm.h"

namespace loqal {
namespace {

// Rows from which a network of float weights is worth tiling.
constexpr int64_t kTiledMlpRows = 96;

void gate_float_products(Cpu& cpu, const FeedForward& n) {
  const FloatTiles tiles(cpu, n.in.x, n.rows, n.gate->inputs);
  float_blocks(cpu, tiles, {{n.gate, n.expert, nullptr, false}, {n.up, n.expert, nullptr, false}},
               [&](int64_t row, int64_t first, int64_t width, const float* gate, const float* up) {
                 cpu.table().silu_mul(gate, up, n.a + row * n.gate->rows + first, width);
               });
}

}  // namespace

void gate_feed_forwards(Cpu& cpu, const std::vector<FeedForward>& networks) {
  std::vector<Product> products;
  for (const FeedForward& n : networks) products.push_back({n.gate, n.expert, nullptr, false, n.rows, n.in});
  const std::vector<PanelRange> work = panel_ranges(cpu, products);
  cpu.pool().run(static_cast<int64_t>(work.size()), [&](int64_t task, int) {
    // Few rows take many panels of one matrix before those of the other: memory is read best in long stretches.
    constexpr int64_t kGateFloats = kTileRows * kPanels * kRows;
    static_assert(kPanels * kRows == kRun);  // so each step of the loop fills whole runs of activations
    alignas(64) float g[kGateFloats], u[kGateFloats];
    const PanelRange& range = work[static_cast<size_t>(task)];
    const FeedForward& n = networks[static_cast<size_t>(range.product - products.data())];
    const int64_t width = n.gate->rows, step = kTileRows / range.columns * kPanels, stride = step * kRows;
    for (int64_t i = range.first; i < range.last; i += step) {
      const int64_t end = std::min(i + step, range.last), count = std::min((end - i) * kRows, width - i * kRows);
      for (const auto& [weight, out] : {std::pair{n.gate, g}, std::pair{n.up, u}})
        for (int64_t panel = i; panel < end; panel += kPanels)
          cpu.table().multiply_panels[static_cast<int>(weight->layout)](
              panel_task(cpu, *weight, n.expert, panel, static_cast<int>(std::min<int64_t>(kPanels, end - panel)), n.in,
                         range.tile, range.columns, {out + (panel - i) * kRows, stride, false}));
      for (int64_t c = 0; c < range.columns; ++c) {
        const int64_t at = (range.tile + c) * width + i * kRows;
        float* a = n.aq ? g + c * stride : n.a + at;
        cpu.table().silu_mul(g + c * stride, u + c * stride, a, count);
        if (n.aq) cpu.table().quantize(a, count, n.aq + at / kRun);
      }
    }
  });
}

void gated_mlp(Cpu& cpu, float* h, const float* x, int64_t rows, const Weight& gate, const Weight& up,
               const Weight& down, const Norm& norm) {
  for (const Weight* w : {&gate, &up, &down}) cpu.meter().weight_bytes += w->expert_bytes();
  const Scratch<float> normed(norm.weight ? rows * gate.inputs : 0);
  const Scratch<ActivationRun> runs(any_quantized({&gate, &up}) ? rows * gate.inputs / kRun : 0);
  const Inputs in = prepare_inputs(cpu, x, rows, gate.inputs, norm, normed.data, runs.data);
  const Middle middle(down, rows);
  const FeedForward network{&gate, &up, &down, 0, rows, in, middle.a(0), middle.aq(0)};
  if (rows >= kTiledMlpRows && !any_quantized({&gate, &up, &down})) {
    gate_float_products(cpu, network);
    return run_float_products(cpu, network.a, rows, down.inputs, {down_product(network, h, true)});
  }
  gate_feed_forwards(cpu, {network});
  const std::vector<Product> down_products{down_product(network, h, true)};
  const ProductTasks tasks(cpu, down_products);
  cpu.pool().run(tasks.count(), tasks);
}

}  // namespace loqal
