// The operations of the vision tower over plain pointers, and products of many rows with float weights.
#include <algorithm>
#include <cstring>

#include "ops.h"

namespace loqal {
namespace {

// Tiles of columns that share one expansion of a block of weights.
constexpr int64_t kGroupTiles = 16;
// Blocks of panels handed out at once.
constexpr int64_t kBlocksPerTask = 4;
// Values of row-wise work worth handing to another thread.
constexpr int64_t kSmallWork = 16384;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Block {
  explicit Block(int64_t floats) : data(static_cast<float*>(BlockPool::instance().take(floats * sizeof(float)))) {}
  ~Block() { BlockPool::give(data); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  float* data;
};

void put_rows(const Product& p, const float* out, int64_t stride, int64_t row, int64_t rows, int64_t first,
              int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    float* y = p.y + (row + r) * p.weight->rows + first;
    const float* from = out + r * stride;
    if (p.add) {
      for (int64_t i = 0; i < width; ++i) y[i] += from[i];
    } else {
      std::memcpy(y, from, static_cast<size_t>(width) * sizeof(float));
    }
  }
}

}  // namespace

void Cpu::run_float_tiles(const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products) {
  const int64_t columns = table_->float_columns, panels = table_->float_panels;
  const int64_t tiles = ceil_div(rows, columns), groups = ceil_div(tiles, kGroupTiles);
  const Block packed(tiles * columns * inputs);
  pool_.run(tiles, [&](int64_t t, int) {
    const auto count = static_cast<int>(std::min(columns, rows - t * columns));
    table_->pack_columns(x + t * columns * inputs, inputs, count, inputs, packed.data + t * columns * inputs);
  });
  for (const Product& p : products) {
    const Weight& w = *p.weight;
    const int64_t blocks = ceil_div(w.panels, panels), shares = ceil_div(blocks, kBlocksPerTask);
    pool_.run(groups * shares, [&](int64_t task, int) {
      constexpr int64_t kMostColumns = 12, kMostPanels = 2;
      alignas(64) float out[kGroupTiles * kMostColumns * kMostPanels * kRows];
      const int64_t first_tile = task / shares * kGroupTiles, count = std::min(kGroupTiles, tiles - first_tile);
      const int64_t row = first_tile * columns, here = std::min(count * columns, rows - row);
      const int64_t share = task % shares * kBlocksPerTask;
      for (int64_t b = share; b < std::min(blocks, share + kBlocksPerTask); ++b) {
        const int64_t first = b * panels, used = std::min(panels, w.panels - first);
        table_->float_block(w.layout, w.panel(p.expert, first), w.panel_bytes, static_cast<int>(used), inputs,
                            packed.data + first_tile * columns * inputs, count, out);
        put_rows(p, out, panels * kRows, row, here, first * kRows, std::min(used * kRows, w.rows - first * kRows));
      }
    });
  }
}

void Cpu::layer_norm(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                     float eps) {
  const int64_t step = std::max<int64_t>(1, kSmallWork / std::max<int64_t>(1, width));
  pool_.run(ceil_div(rows, step), [&](int64_t task, int) {
    for (int64_t r = task * step; r < std::min(rows, (task + 1) * step); ++r)
      table_->layer_norm(x + r * width, weight, bias, y + r * width, width, eps);
  });
}

void Cpu::add_bias(float* x, const float* bias, int64_t rows, int64_t width) {
  const int64_t step = std::max<int64_t>(1, kSmallWork / std::max<int64_t>(1, width));
  pool_.run(ceil_div(rows, step), [&](int64_t task, int) {
    for (int64_t r = task * step; r < std::min(rows, (task + 1) * step); ++r)
      table_->add_bias(x + r * width, bias, width);
  });
}

void Cpu::gelu(float* x, int64_t count, bool exact) {
  pool_.run(ceil_div(count, kSmallWork), [&](int64_t task, int) {
    table_->gelu(x + task * kSmallWork, std::min(kSmallWork, count - task * kSmallWork), exact);
  });
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
