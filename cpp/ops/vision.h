// The vision tower's operations.
#pragma once

#include <cstdint>

#include "ops/cpu.h"

namespace loqal {

// A picture's heads with the memory they lie in.
struct VisionPack {
  VisionPack(int64_t rows, int heads, int head_dim, int tile_columns);
  ~VisionPack() { BlockPool::give(block); }
  VisionPack(const VisionPack&) = delete;
  VisionPack& operator=(const VisionPack&) = delete;
  VisionHeads heads;
  int num_heads;
  void* block;
};

// y = (x - mean) / deviation * weight + bias by row: x and y [rows width], weight and bias [width].
void layer_norm(Cpu& cpu, const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                float eps);

// x [rows width] += bias [width].
void add_bias(Cpu& cpu, float* x, const float* bias, int64_t rows, int64_t width);

// x [count] = gelu(x): by the error function where `exact`, else by the hyperbolic tangent.
void gelu(Cpu& cpu, float* x, int64_t count, bool exact);

// Lays the heads of qkv [rows 3 heads head_dim] out for attention, rotated by cos and sin [rows head_dim/2].
void pack_heads(Cpu& cpu, const float* qkv, const float* cos, const float* sin, VisionPack& pack);

// Attention of rows first_row to end_row to all rows: out [end_row-first_row heads*head_dim].
void vision_attention(Cpu& cpu, const VisionPack& pack, int64_t first_row, int64_t end_row, float* out);

}  // namespace loqal
