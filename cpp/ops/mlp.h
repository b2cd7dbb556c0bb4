// Feed-forward networks: silu(gate x) * up x, through down.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "ops/linear.h"

namespace loqal {

// A feed-forward network over rows that lie together: a = silu(gate x) * up x, and what comes of it through down.
struct FeedForward {
  const Weight *gate, *up, *down;  // [width D], [width D], [D width]
  int64_t expert, rows;
  Inputs in;          // [rows D]
  float* a;           // [rows width], or
  ActivationRun* aq;  // [rows width/kRun], where down is quantized
};

// What a network passes from its first products to the last, in the form that one reads.
struct Middle {
  Middle(const Weight& down, int64_t rows)
      : width(down.inputs),
        values(down.quantized() ? 0 : rows * width),
        runs(down.quantized() ? rows * width / kRun : 0) {}
  float* a(int64_t row) const { return values.data ? values.data + row * width : nullptr; }
  ActivationRun* aq(int64_t row) const { return runs.data ? runs.data + row * width / kRun : nullptr; }
  int64_t width;
  Scratch<float> values;
  Scratch<ActivationRun> runs;
};

// The product by down: y [rows D].
inline Product down_product(const FeedForward& n, float* y, bool add) {
  return {n.down, n.expert, y, add, n.rows, {n.a, n.aq}};
}

inline bool any_quantized(std::initializer_list<const Weight*> weights) {
  return std::any_of(weights.begin(), weights.end(), [](const Weight* w) { return w->quantized(); });
}

// The part of networks before down: fills `a` or `aq` of each.
void gate_feed_forwards(Cpu& cpu, const std::vector<FeedForward>& networks);

// h += down (silu(gate y) * up y) with y = x behind the norm: h and x [rows D], where x may be h itself.
void gated_mlp(Cpu& cpu, float* h, const float* x, int64_t rows, const Weight& gate, const Weight& up,
               const Weight& down, const Norm& norm = {});

}  // namespace loqal
