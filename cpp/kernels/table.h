// The functions every instruction set provides. See docs/numerics.md for the rules.
#pragma once

#include <cstdint>

#include "kernels/constants.h"
#include "kernels/tasks.h"
#include "layouts/layout.h"

namespace loqal {

struct KernelTable {
  const char* name;

  // Products, kernels/linear-inl.h. x [inputs] into out [inputs/kRun].
  void (*quantize)(const float* x, int64_t inputs, ActivationRun* out);
  // Panels times rows, one function a layout.
  void (*multiply_panels[static_cast<int>(Layout::Count)])(const PanelTask& task);
  // One row of a panel, out [inputs].
  void (*read_row)(Layout layout, const uint8_t* panel, int64_t inputs, int row, float* out);

  // Rows, kernels/functions-inl.h: every array [width] or [n].
  void (*rms_norm)(const float* x, const float* weight, float* y, int64_t width, float eps);
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);  // y = silu(gate) * up
  void (*sigmoid_mul)(const float* gate, float* y, int64_t n);                // y *= sigmoid(gate)
  void (*softmax)(float* x, int64_t n);                                       // in place
  float (*log_sum_exp)(const float* x, int64_t n);

  // Gated DeltaNet, kernels/delta-inl.h.
  void (*delta)(const DeltaTask& task);

  // Gated attention, kernels/attention-inl.h. Heads [head_dim], cos and sin [rotary_dim/2]; a query comes out normed,
  // rotated and divided by the root of head_dim, a key normed and rotated, at `offset` of a page.
  void (*prepare_query)(const float* query, const float* norm, const float* cos, const float* sin, float* out,
                        const AttentionShape& shape);
  void (*store_key_value)(const float* key, const float* norm, const float* cos, const float* sin, const float* value,
                          const KvStore& kv, int64_t page, int offset, int kv_head, const AttentionShape& shape);
  // One span for all rows and heads of a task: partial [rows group], sums [rows group head_dim].
  void (*attend_span)(const AttentionTask& task, int64_t span, SoftmaxPartial* partial, float* sums);
  // Of one row and head: sums, gate and out [head_dim]; finish gives out = sums / weight * sigmoid(gate).
  void (*merge)(SoftmaxPartial& into, float* into_sums, const SoftmaxPartial& from, const float* from_sums,
                int head_dim);
  void (*finish)(const SoftmaxPartial& partial, const float* sums, const float* gate, float* out, int head_dim);

  // The vision tower and products of many rows, kernels/vision-inl.h. A tile has float_columns rows of activations; a
  // block multiplies up to float_panels panels.
  int float_columns, float_panels;
  // `columns` rows of x, `stride` apart, into a tile [inputs float_columns].
  void (*pack_columns)(const float* x, int64_t stride, int columns, int64_t inputs, float* out);
  // `count` panels times x [tiles inputs float_columns]: out [tiles float_columns float_panels*16].
  void (*float_block)(Layout layout, const uint8_t* panels, int64_t panel_bytes, int count, int64_t inputs,
                      const float* x, int64_t tiles, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float* y, int64_t width, float eps);
  void (*add_bias)(float* x, const float* bias, int64_t count);  // x [count] += bias [count]
  void (*gelu)(float* x, int64_t count, bool exact);             // in place
  // One row of one head: query, key and value [head_dim], cos and sin [head_dim/2].
  void (*pack_head)(const float* query, const float* key, const float* value, const float* cos, const float* sin,
                    const VisionHeads& heads, int64_t head, int64_t row);
  // Rows first_row to end_row that lie in `tiles` tiles: out [end_row-first_row head_dim], rows out_stride apart.
  void (*vision_attention)(const VisionHeads& heads, int64_t head, int64_t tile, int tiles, float* out,
                           int64_t out_stride, int64_t first_row, int64_t end_row);

  // Yardsticks, see base/measure.h. Inputs are [kPeakRows kPeakChains]; a chain takes 16 lanes a round.
  uint8_t (*read_bytes)(const uint8_t* p, int64_t bytes, bool prefetches);
  int32_t (*dot_peak)(int chains, const uint8_t* codes, const int32_t* inputs, int64_t rounds);
  float (*fma_peak)(int chains, const float* weights, const float* inputs, int64_t rounds);
};

// Which of them a build has, and which of those the machine can run: usable_tables in targets/dispatch.h.
const KernelTable* avx512_table();  // with VNNI
const KernelTable* avx512_novnni_table();
const KernelTable* avx2_vnni_table();
const KernelTable* avx2_table();
const KernelTable* neon_i8mm_table();
const KernelTable* neon_table();  // with dot products
const KernelTable* plain_table();

}  // namespace loqal
