// Products of many rows with float weights: the chains of ProductTasks, in tiles that stay in the caches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "ops/linear.h"

namespace loqal {

// Rows of activations x [r k] side by side, in tiles of the table's width.
struct FloatTiles {
  FloatTiles(Cpu& cpu, const float* x, int64_t r, int64_t k)
      : rows(r), inputs(k), columns(cpu.table().float_columns), packed(ceil_div(r, columns) * columns * k) {
    cpu.pool().run(ceil_div(rows, columns), [&](int64_t tile, int) {
      const auto count = static_cast<int>(std::min(columns, rows - tile * columns));
      const int64_t at = tile * columns * inputs;
      cpu.table().pack_columns(x + at, inputs, count, inputs, packed.data + at);
    });
  }
  int64_t rows, inputs, columns;
  Scratch<float> packed;
};

// Calls use(row, first, width, out) for every row and run of outputs, with what each product gives there.
template <class Use>
void float_blocks(Cpu& cpu, const FloatTiles& in, std::initializer_list<Product> products, Use use) {
  constexpr int64_t kGroupTiles = 16;  // tiles of columns that share one expansion of a block of weights
  // What they give for the widest block of panels.
  constexpr int64_t kGroupFloats = kGroupTiles * kMaxFloatColumns * kMaxFloatPanels * kRows;
  constexpr int64_t kMostProducts = 2;
  constexpr int64_t kBlocksPerTask = 4;  // blocks of panels handed out at once
  const int64_t panels = cpu.table().float_panels, stride = panels * kRows, tiles = ceil_div(in.rows, in.columns);
  const Weight& shape = *products.begin()->weight;
  const int64_t blocks = ceil_div(shape.panels, panels), shares = ceil_div(blocks, kBlocksPerTask);
  cpu.pool().run(ceil_div(tiles, kGroupTiles) * shares, [&](int64_t task, int) {
    alignas(64) float out[kMostProducts][kGroupFloats];
    const int64_t first_tile = task / shares * kGroupTiles, count = std::min(kGroupTiles, tiles - first_tile);
    const int64_t row = first_tile * in.columns, here = std::min(count * in.columns, in.rows - row);
    const int64_t share = task % shares * kBlocksPerTask;
    for (int64_t b = share; b < std::min(blocks, share + kBlocksPerTask); ++b) {
      const int64_t first = b * panels, used = std::min(panels, shape.panels - first);
      float* to = out[0];
      for (const Product& p : products) {
        const Weight& w = *p.weight;
        cpu.table().float_block(w.layout, w.panel(p.expert, first), w.panel_bytes, static_cast<int>(used), in.inputs,
                                in.packed.data + row * in.inputs, count, to);
        to += kGroupFloats;
      }
      const int64_t width = std::min(used * kRows, shape.rows - first * kRows);
      for (int64_t r = 0; r < here; ++r) use(row + r, first * kRows, width, out[0] + r * stride, out[1] + r * stride);
    }
  });
}

// Every product of x [rows inputs] with a float weight: y [rows O] = or += x W^T.
void run_float_products(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products);

}  // namespace loqal
