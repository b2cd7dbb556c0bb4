#include "ops/linear.h"

#include <algorithm>

#include "ops/float_gemm.h"

namespace loqal {
namespace {

// Ranges shrink towards the end, where what one thread still has to do keeps the others waiting. The smallest:
constexpr int64_t kSmallRangeBytes = 16 << 10;
// Rows from which float weights are worth tiling.
constexpr int64_t kTiledLinearRows = 24;

// x [rows inputs] into out [rows inputs/kRun].
void quantize(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, ActivationRun* out) {
  for_rows(cpu, rows, inputs,
           [&](int64_t r) { cpu.table().quantize(x + r * inputs, inputs, out + r * inputs / kRun); });
}

}  // namespace

void embed(Cpu& cpu, const Weight& w, const int32_t* ids, int64_t tokens, float* out) {
  for_rows(cpu, tokens, w.inputs, [&](int64_t t) {
    cpu.table().read_row(w.layout, w.panel(0, ids[t] / kRows), w.inputs, ids[t] % kRows, out + t * w.inputs);
  });
}

void rms_norm(Cpu& cpu, const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps) {
  for_rows(cpu, rows, width,
           [&](int64_t r) { cpu.table().rms_norm(x + r * width, weight, y + r * width, width, eps); });
}

Inputs prepare_inputs(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, const Norm& norm, float* normed,
                      ActivationRun* runs) {
  if (!norm.weight) {
    if (runs) quantize(cpu, x, rows, inputs, runs);
    return {x, runs};
  }
  for_rows(cpu, rows, inputs, [&](int64_t r) {
    float* row = normed + r * inputs;
    cpu.table().rms_norm(x + r * inputs, norm.weight, row, inputs, norm.eps);
    if (runs) cpu.table().quantize(row, inputs, runs + r * inputs / kRun);
  });
  return {normed, runs};
}

std::vector<PanelRange> panel_ranges(const Cpu& cpu, const std::vector<Product>& products) {
  std::vector<PanelRange> out;
  int64_t most = 0;
  for (const Product& p : products) most = std::max(most, p.rows);
  for (int64_t tile = 0; tile < most; tile += kTileRows) {
    int64_t left = 0;
    for (const Product& p : products) left += p.rows > tile ? p.weight->expert_bytes() : 0;
    for (const Product& p : products)
      for (int64_t i = 0; p.rows > tile && i < p.weight->panels;) {
        const int64_t wanted = std::max(left / (2 * cpu.threads()), kSmallRangeBytes) / p.weight->panel_bytes;
        const int64_t end = std::min(i + std::max<int64_t>(wanted / kPanels * kPanels, kPanels), p.weight->panels);
        out.push_back({&p, i, end, tile, static_cast<int>(std::min<int64_t>(kTileRows, p.rows - tile))});
        left -= (end - i) * p.weight->panel_bytes;
        i = end;
      }
  }
  return out;
}

PanelTask panel_task(const Cpu& cpu, const Weight& w, int64_t expert, int64_t panel, int count, const Inputs& in,
                     int64_t row, int columns, const Target& target) {
  const int64_t stride = w.quantized() ? w.inputs / kRun : w.inputs;
  return {w.panel(expert, panel),
          w.panel_bytes,
          count,
          w.inputs,
          in.xq ? in.xq + row * stride : nullptr,
          in.x ? in.x + row * stride : nullptr,
          stride,
          columns,
          !cpu.hardware_prefetches(),
          target};
}

void ProductTasks::operator()(int64_t task, int) const {
  const PanelRange& range = ranges_[static_cast<size_t>(task)];
  const Product& p = *range.product;
  const Weight& w = *p.weight;
  const auto multiply_panels = cpu_.table().multiply_panels[static_cast<int>(w.layout)];
  const int64_t whole = std::min(range.last, w.rows / kRows);
  float* y = p.y + range.tile * w.rows;
  for (int64_t i = range.first; i < whole; i += kPanels)
    multiply_panels(panel_task(cpu_, w, p.expert, i, static_cast<int>(std::min<int64_t>(kPanels, whole - i)), p.in,
                               range.tile, range.columns, {y + i * kRows, w.rows, p.add}));
  if (whole == range.last) return;
  // The last panel has fewer rows than lanes.
  alignas(64) float out[kTileRows * kRows];
  multiply_panels(panel_task(cpu_, w, p.expert, whole, 1, p.in, range.tile, range.columns, {out, kRows, false}));
  for (int c = 0; c < range.columns; ++c)
    for (int64_t r = 0; r < w.rows % kRows; ++r) {
      float& to = y[c * w.rows + whole * kRows + r];
      to = p.add ? to + out[c * kRows + r] : out[c * kRows + r];
    }
}

void linear(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products,
            const Norm& norm) {
  const bool quantized = std::any_of(products.begin(), products.end(), [](auto& p) { return p.weight->quantized(); });
  for (const Product& p : products) cpu.meter().weight_bytes += p.weight->expert_bytes();
  const Scratch<float> normed(norm.weight ? rows * inputs : 0);
  const Scratch<ActivationRun> runs(quantized ? rows * inputs / kRun : 0);
  const Inputs in = prepare_inputs(cpu, x, rows, inputs, norm, normed.data, runs.data);
  if (!quantized && rows >= kTiledLinearRows) return run_float_products(cpu, in.x, rows, inputs, products);
  std::vector<Product> shared = products;
  for (Product& p : shared) {
    p.rows = rows;
    p.in = in;
  }
  const ProductTasks tasks(cpu, shared);
  cpu.pool().run(tasks.count(), tasks);
}

}  // namespace loqal
