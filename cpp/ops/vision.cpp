#include "ops/vision.h"

#include <algorithm>

namespace loqal {

void layer_norm(Cpu& cpu, const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                float eps) {
  for_rows(cpu, rows, width,
           [&](int64_t r) { cpu.table().layer_norm(x + r * width, weight, bias, y + r * width, width, eps); });
}

void add_bias(Cpu& cpu, float* x, const float* bias, int64_t rows, int64_t width) {
  for_rows(cpu, rows, width, [&](int64_t r) { cpu.table().add_bias(x + r * width, bias, width); });
}

void gelu(Cpu& cpu, float* x, int64_t count, bool exact) {
  constexpr int64_t kStep = 16384;
  cpu.pool().run(ceil_div(count, kStep), [&](int64_t task, int) {
    cpu.table().gelu(x + task * kStep, std::min(kStep, count - task * kStep), exact);
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

void pack_heads(Cpu& cpu, const float* qkv, const float* cos, const float* sin, VisionPack& pack) {
  const int64_t dim = pack.heads.head_dim, width = pack.num_heads * dim, half = dim / 2;
  constexpr int64_t kStep = 48;  // rows: whole tiles of queries and whole panels of keys, so no two tasks share a line
  const int64_t steps = ceil_div(pack.heads.rows, kStep);
  cpu.pool().run(steps * pack.num_heads, [&](int64_t task, int) {
    const int64_t head = task / steps, first = task % steps * kStep;
    for (int64_t row = first; row < std::min(pack.heads.rows, first + kStep); ++row) {
      const float* q = qkv + row * 3 * width + head * dim;
      cpu.table().pack_head(q, q + width, q + 2 * width, cos + row * half, sin + row * half, pack.heads, head, row);
    }
  });
}

void vision_attention(Cpu& cpu, const VisionPack& pack, int64_t first_row, int64_t end_row, float* out) {
  const int64_t columns = cpu.table().float_columns, width = static_cast<int64_t>(pack.num_heads) * pack.heads.head_dim;
  const int64_t first = first_row / columns, end = ceil_div(end_row, columns);
  const int64_t steps = ceil_div(end - first, kVisionTiles);
  cpu.pool().run(steps * pack.num_heads, [&](int64_t task, int) {
    const int64_t head = task / steps, tile = first + task % steps * kVisionTiles;
    const auto tiles = static_cast<int>(std::min<int64_t>(kVisionTiles, end - tile));
    // Where the first tile begins before the slice, its rows before are left out.
    const int64_t begin = std::max(first_row, tile * columns);
    cpu.table().vision_attention(pack.heads, head, tile, tiles,
                                 out + (begin - first_row) * width + head * pack.heads.head_dim, width, begin, end_row);
  });
}

}  // namespace loqal
