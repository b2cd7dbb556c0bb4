// The functions every instruction set provides. See docs/numerics.md for the rules.
#pragma once

#include <cstdint>

#include "kernels/constants.h"
#include "kernels/tasks.h"
#include "layouts/layout.h"

namespace loqal {

struct KernelTable {
  const char* name;
  void (*quantize)(const float* x, int64_t inputs, ActivationRun* out);
  void (*panels)(const PanelTask& task);
  void (*rms_norm)(const float* x, const float* weight, float* y, int64_t width, float eps);
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);
  void (*sigmoid_mul)(const float* gate, float* y, int64_t n);  // y *= sigmoid(gate)
  void (*softmax)(float* x, int64_t n);                         // in place
  void (*delta)(const DeltaTask& task);
  void (*prepare_query)(const float* query, const float* norm, const float* cos, const float* sin, float* out,
                        const AttentionShape& shape);
  void (*store_key_value)(const float* key, const float* norm, const float* cos, const float* sin, const float* value,
                          const KvStore& kv, int64_t page, int offset, int kv_head, const AttentionShape& shape);
  void (*attend_span)(const AttentionTask& task, int64_t span, SoftmaxPartial* partial, float* sums);
  void (*merge)(SoftmaxPartial& into, float* into_sums, const SoftmaxPartial& from, const float* from_sums,
                int head_dim);
  void (*finish)(const SoftmaxPartial& partial, const float* sums, const float* gate, float* out, int head_dim);
  float (*log_sum_exp)(const float* x, int64_t n);
  void (*read_row)(Layout layout, const uint8_t* panel, int64_t inputs, int row, float* out);
  // The vision tower, kernels/vision-inl.h. A tile has float_columns rows; a block multiplies up to float_panels
  // panels.
  int float_columns, float_panels;
  void (*pack_columns)(const float* x, int64_t stride, int columns, int64_t inputs, float* out);
  void (*float_block)(Layout layout, const uint8_t* panels, int64_t panel_bytes, int count, int64_t inputs,
                      const float* x, int64_t tiles, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float* y, int64_t width, float eps);
  void (*add_bias)(float* x, const float* bias, int64_t count);
  void (*gelu)(float* x, int64_t count, bool exact);
  void (*pack_head)(const float* query, const float* key, const float* value, const float* cos, const float* sin,
                    const VisionHeads& heads, int64_t head, int64_t row);
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
