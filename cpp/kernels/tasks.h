// The records that operations hand to kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/constants.h"
#include "layouts/layout.h"

namespace loqal {

// One run of 32 activations, quantized: value ~ scale * q.
struct alignas(64) ActivationRun {
  int32_t q4[kRun / 4];  // four int8 each, as one instruction multiplies them
  float scale;
  float neg_sum;       // -scale * sum(q), for weight minima per 32 inputs
  float neg_sum16[2];  // the same for each half
  // kSumBase - offset * sum(q): where the dot with codes of that offset starts; the last ones for each half.
  int32_t start8, start128, start32[2];

  int8_t* q() { return reinterpret_cast<int8_t*>(q4); }
};
static_assert(sizeof(ActivationRun) == 64);

// Where the product of a panel's row r with activation row c goes, or is added: y[c * stride + 16 * panel + r].
struct Target {
  float* y;
  int64_t stride;
  bool add;
};

// Some panels times activation rows, at most kPanels times kTileRows.
struct PanelTask {
  const uint8_t* panels;  // [count panel_bytes]
  int64_t panel_bytes;
  int count;
  int64_t inputs;
  const ActivationRun* xq;  // [columns inputs/kRun] for quantized layouts, else
  const float* xf;          // [columns inputs]
  int64_t x_stride;         // from row to row, in elements of the kind that is used
  int columns;              // activation rows
  bool prefetch;            // whether the weights are prefetched for a single activation row too
  Target target;
};

// One key head of a Gated DeltaNet layer with its value heads, for one sequence's run of tokens.
struct DeltaTask {
  const float *qkv, *z, *beta, *alpha;     // from the run's first row on; shapes as in DeltaArrays, ops/delta.h
  const float *conv, *a, *dt_bias, *norm;  // the same
  float* out;                              // [num_tokens value_heads kDeltaHeadDim]
  float *tail, *state;                     // of this sequence's slot
  float* journal;                          // of this sequence, see JournalRow
  int64_t pending;                         // its first rows that the state has not seen yet; they are applied first
  bool defers;                             // this run goes to the journal instead of the state
  int64_t num_tokens;
  int key_head, key_heads, value_heads;
  float eps;
  const float* next_state;  // of the head that this thread works on next, or null: it is fetched meanwhile
};

// A journal row is what one token does to the state of a layer: [inputs of the convolution, keys, what is added along
// them, decays]. Applied to the state it gives the same bits as the token itself.
struct JournalRow {
  JournalRow(int64_t key_heads, int64_t heads)
      : key_width(key_heads * kDeltaHeadDim),
        value_width(heads * kDeltaHeadDim),
        channels(2 * key_width + value_width),
        value_heads(heads) {}
  int64_t key_width, value_width, channels, value_heads;
  int64_t keys() const { return channels; }
  int64_t deltas() const { return channels + key_width; }
  int64_t decays() const { return channels + key_width + value_width; }
  int64_t floats() const { return channels + key_width + value_width + value_heads; }
};

// Of one layer.
struct AttentionShape {
  int heads, kv_heads, head_dim, rotary_dim;
  float eps;
};

// Keys and values of one layer, in pages: float32, float16, or int8 with a float16 scale per kKvBlock dimensions.
// Keys lie [page kv_head group head_dim kKeys] and their scales [page kv_head group block kKeys]; values lie
// [page kv_head position head_dim] and their scales [page kv_head position block].
struct KvStore {
  int bits;
  void *keys, *values;
  uint16_t *key_scales, *value_scales;  // 8 bits only
};
// One query row, or kQueryRows that follow each other within a span, of one key/value head.
struct AttentionTask {
  const float* query;  // [group head_dim], rotated and scaled; of the first row
  int64_t query_stride;
  int rows;
  KvStore kv;
  const int32_t* page_table;  // of this sequence
  int64_t position;           // the first row attends to 0 .. position
  int group, kv_head, kv_heads, head_dim;
};

// Softmax over one span or several merged, by row and head of the group: out = sum / weight.
struct SoftmaxPartial {
  float top, weight;
};

// One picture's queries (rotated and scaled), keys (rotated) and values, in the layouts attention reads: queries
// [head tile head_dim float_columns], keys [head panel head_dim 16], values [head panel row 16] with head_dim padded.
struct VisionHeads {
  float *queries, *keys, *values;
  int64_t rows, query_tiles, key_panels;
  int head_dim;
};

}  // namespace loqal
