// The operations of the vision tower over plain pointers, and products of many rows with float weights.
#include <algorithm>
#include <cstring>

#include "ops/ops.h"

namespace loqal {
namespace {

// Tiles of columns that share one expansion of a block of weights.
constexpr int64_t kGroupTiles = 16;
// What they give for the widest block of panels: at most 12 columns and 2 panels.
constexpr int64_t kGroupFloats = kGroupTiles * 12 * 2 * kRows;
constexpr int64_t kMostProducts = 2;
// Blocks of panels handed out at once.
constexpr int64_t kBlocksPerTask = 4;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

// Rows of activations side by side, in tiles of the table's width.
struct FloatTiles {
  FloatTiles(const KernelTable& table, ThreadPool& pool, const float* x, int64_t r, int64_t k)
      : rows(r), inputs(k), columns(table.float_columns), packed(ceil_div(r, columns) * columns * k) {
    pool.run(ceil_div(rows, columns), [&](int64_t tile, int) {
      const auto count = static_cast<int>(std::min(columns, rows - tile * columns));
      const int64_t at = tile * columns * inputs;
      table.pack_columns(x + at, inputs, count, inputs, packed.data + at);
    });
  }
  int64_t rows, inputs, columns;
  Scratch<float> packed;
};

// Calls use(row, first, width, out) for every row and run of outputs, with what each product gives there.
template <class Use>
void Cpu::float_blocks(const FloatTiles& in, std::initializer_list<Product> products, Use use) {
  const int64_t panels = table_->float_panels, stride = panels * kRows, tiles = ceil_div(in.rows, in.columns);
  const Weight& shape = *products.begin()->weight;
  const int64_t blocks = ceil_div(shape.panels, panels), shares = ceil_div(blocks, kBlocksPerTask);
  pool_.run(ceil_div(tiles, kGroupTiles) * shares, [&](int64_t task, int) {
    alignas(64) float out[kMostProducts][kGroupFloats];
    const int64_t first_tile = task / shares * kGroupTiles, count = std::min(kGroupTiles, tiles - first_tile);
    const int64_t row = first_tile * in.columns, here = std::min(count * in.columns, in.rows - row);
    const int64_t share = task % shares * kBlocksPerTask;
    for (int64_t b = share; b < std::min(blocks, share + kBlocksPerTask); ++b) {
      const int64_t first = b * panels, used = std::min(panels, shape.panels - first);
      float* to = out[0];
      for (const Product& p : products) {
        const Weight& w = *p.weight;
        table_->float_block(w.layout, w.panel(p.expert, first), w.panel_bytes, static_cast<int>(used), in.inputs,
                            in.packed.data + row * in.inputs, count, to);
        to += kGroupFloats;
      }
      const int64_t width = std::min(used * kRows, shape.rows - first * kRows);
      for (int64_t r = 0; r < here; ++r) use(row + r, first * kRows, width, out[0] + r * stride, out[1] + r * stride);
    }
  });
}

void Cpu::run_float_tiles(const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products) {
  const FloatTiles tiles(*table_, pool_, x, rows, inputs);
  for (const Product& p : products)
    float_blocks(tiles, {p}, [&](int64_t row, int64_t first, int64_t width, const float* out, const float*) {
      float* y = p.y + row * p.weight->rows + first;
      for (int64_t i = 0; i < width; ++i) y[i] = p.add ? y[i] + out[i] : out[i];
    });
}

void Cpu::gate_float_tiles(const Network& n) {
  const FloatTiles tiles(*table_, pool_, n.in.x, n.rows, n.gate->inputs);
  float_blocks(tiles, {{n.gate, n.expert, nullptr, false}, {n.up, n.expert, nullptr, false}},
               [&](int64_t row, int64_t first, int64_t width, const float* gate, const float* up) {
                 table_->silu_mul(gate, up, n.a + row * n.gate->rows + first, width);
               });
}

void Cpu::layer_norm(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                     float eps) {
  for_rows(rows, width, [&](int64_t r) { table_->layer_norm(x + r * width, weight, bias, y + r * width, width, eps); });
}

void Cpu::add_bias(float* x, const float* bias, int64_t rows, int64_t width) {
  for_rows(rows, width, [&](int64_t r) { table_->add_bias(x + r * width, bias, width); });
}

void Cpu::gelu(float* x, int64_t count, bool exact) {
  constexpr int64_t kStep = 16384;
  pool_.run(ceil_div(count, kStep),
            [&](int64_t task, int) { table_->gelu(x + task * kStep, std::min(kStep, count - task * kStep), exact); });
}

VisionPack::VisionPack(int64_t rows, int count, int head_dim, int float_columns)
    : heads{}, num_heads(count), block(nullptr) {
  heads.rows = rows;
  heads.head_dim = head_dim;
  heads.query_tiles = ceil_div(rows, float_columns);
  heads.key_panels = ceil_div(rows, kRows);
  const int64_t queries = count * heads.query_tiles * float_columns * head_dim;
  const int64_t keys = count * heads.key_panels * kRows * head_dim;
  const int64_t values = count * ceil_div(head_dim, kRows) * rows * kRows;
  block = BlockPool::instance().take(static_cast<size_t>(queries + keys + values) * sizeof(float));
  heads.keys = static_cast<float*>(block);
  heads.values = heads.keys + keys;
  heads.queries = heads.values + values;
}

void Cpu::place_heads(const float* qkv, const float* cos, const float* sin, VisionPack& pack) {
  const int64_t dim = pack.heads.head_dim, width = pack.num_heads * dim, half = dim / 2;
  constexpr int64_t kStep = 48;  // rows: whole tiles of queries and whole panels of keys, so no two tasks share a line
  const int64_t steps = ceil_div(pack.heads.rows, kStep);
  pool_.run(steps * pack.num_heads, [&](int64_t task, int) {
    const int64_t head = task / steps, first = task % steps * kStep;
    for (int64_t row = first; row < std::min(pack.heads.rows, first + kStep); ++row) {
      const float* q = qkv + row * 3 * width + head * dim;
      table_->place_head(q, q + width, q + 2 * width, cos + row * half, sin + row * half, pack.heads, head, row);
    }
  });
}

void Cpu::attend_picture(const VisionPack& pack, int64_t first_row, int64_t end_row, float* out) {
  const int64_t columns = table_->float_columns, width = static_cast<int64_t>(pack.num_heads) * pack.heads.head_dim;
  const int64_t first = first_row / columns, end = ceil_div(end_row, columns);
  const int64_t steps = ceil_div(end - first, kVisionTiles);
  pool_.run(steps * pack.num_heads, [&](int64_t task, int) {
    const int64_t head = task / steps, tile = first + task % steps * kVisionTiles;
    const auto tiles = static_cast<int>(std::min<int64_t>(kVisionTiles, end - tile));
    // Where the first tile begins before the slice, its rows before are left out.
    const int64_t begin = std::max(first_row, tile * columns);
    table_->attend_picture(pack.heads, head, tile, tiles,
                           out + (begin - first_row) * width + head * pack.heads.head_dim, width, begin, end_row);
  });
}

}  // namespace loqal
