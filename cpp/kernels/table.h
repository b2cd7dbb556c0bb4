// The functions every instruction set provides, and the records they share. See docs/numerics.md for the rules.
#pragma once

#include <cstddef>
#include <cstdint>

namespace loqal {

// Packed weight layouts: panels of 16 output rows, rows in vector lanes. Sizes and contents in layouts/formats-inl.h.
enum class Layout : int {
  F32,
  F16,
  BF16,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  IQ4_NL,
  MXFP4,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_XS,
  I8,  // int8 codes with a float scale per 16 inputs: what rarer formats are decoded to
  Count
};

struct LayoutInfo {
  const char* name;
  int inputs;       // per packed group
  int group_bytes;  // for 16 rows
  bool quantised;   // takes quantised activations
};

constexpr int kRows = 16;                        // output rows in a panel
constexpr int kPanels = 2;                       // panels a kernel takes at a time
constexpr int kTileRows = 128;                   // activation rows a kernel takes at a time, so that they stay in the
                                                 // second-level cache while all panels of a thread pass over them
constexpr int kRun = 32;                         // inputs that share an activation scale
constexpr int kSpan = 512;                       // key positions per attention span
constexpr int kPage = 64;                        // key positions per page
constexpr int kQueryRows = 4;                    // query rows that attend together
constexpr int kKeys = 16;                        // key positions in vector lanes
constexpr int kStateTile = 32;                   // value columns of a recurrent state that lie together
constexpr int kChunk = 32;                       // tokens the delta kernel keeps in its buffers
constexpr int kJournalRows = 8;                  // tokens a step may leave out of a recurrent state
constexpr int kPeakRows = 16, kPeakChains = 16;  // inputs of the loops that measure a peak

// Whether this processor fetches a single stream of weights sooner by itself than when it is also asked to: measured on
// Zen 4, where one row is 7 to 21 % faster unasked while eight, which compute longer, are slower.
extern const bool kFetchesAlone;

// The bits of 1.5 * 2^23. An integer below 2^22 in magnitude added to them gives the bits of the float 1.5 * 2^23 plus
// that integer: a dot that starts here needs no conversion.
constexpr int32_t kSumBase = 0x4b400000;

// One run of 32 activations, quantised: value ~ scale * q.
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

// One key head of a Gated DeltaNet layer with its value heads, for one sequence's run of tokens.
struct DeltaTask {
  const float *qkv, *z, *beta, *alpha;  // first row of the run
  const float *conv, *a, *dt_bias, *norm;
  float* out;           // [n Hv*dv]
  float *tail, *state;  // of this sequence's slot
  float* journal;       // of this sequence, see JournalRow
  int64_t pending;      // its first rows that the state has not seen yet; they are applied first
  bool defers;          // this run goes to the journal instead of the state
  int64_t num_tokens;
  int key_head, key_heads, value_heads, key_dim, value_dim;
  float eps;
  const float* next_state;  // of the head that this thread works on next, or null: it is fetched meanwhile
};

// A journal row is what one token does to the state of a layer: [inputs of the convolution, keys, what is added along
// them, decays]. Applied to the state it gives the same bits as the token itself.
struct JournalRow {
  int64_t channels, key_width, value_width, value_heads;
  int64_t keys() const { return channels; }
  int64_t deltas() const { return channels + key_width; }
  int64_t decays() const { return channels + key_width + value_width; }
  int64_t floats() const { return channels + key_width + value_width + value_heads; }
};

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
constexpr int kKvBlock = 64;

// One query row, or kQueryRows that follow each other within a span, of one key/value head.
struct AttentionTask {
  const float* query;  // [group head_dim], turned and scaled; of the first row
  int64_t query_stride;
  int rows;
  KvStore kv;
  const int32_t* page_table;  // of this sequence
  int64_t position;           // the first row attends to 0 .. position
  int group, kv_head, kv_heads, head_dim;
};

// Softmax over one span or several merged, by row and head of the group: out = sum / weight.
struct Partial {
  float top, weight;
};

// One picture's queries (turned and scaled), keys (turned) and values, in the layouts attention reads: queries
// [head tile head_dim float_columns], keys [head panel head_dim 16], values [head panel row 16] with head_dim padded.
struct VisionHeads {
  float *queries, *keys, *values;
  int64_t rows, query_tiles, key_panels;
  int head_dim;
};
constexpr int kVisionSpan = 512;    // patches per span of vision attention
constexpr int kVisionTiles = 4;     // most tiles of queries in a task
constexpr int kMaxVisionDim = 128;  // of a vision head

struct KernelTable {
  const char* name;
  void (*quantise)(const float* x, int64_t inputs, ActivationRun* out);
  // Some panels, at most kPanels, times activation rows, at most kTileRows. `x_stride` counts elements of the kind that
  // is used.
  void (*panels)(Layout layout, const uint8_t* panels, int64_t panel_bytes, int count, int64_t inputs,
                 const ActivationRun* xq, const float* xf, int64_t x_stride, int columns, const Target& target);
  void (*rms_norm)(const float* x, const float* weight, float* y, int64_t width, float eps);
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);
  void (*sigmoid_mul)(const float* gate, float* y, int64_t n);  // y *= sigmoid(gate)
  void (*softmax)(float* x, int64_t n);                         // in place
  void (*delta)(const DeltaTask& task);
  void (*prepare_query)(const float* query, const float* norm, const float* cos, const float* sin, float* out,
                        const AttentionShape& shape);
  void (*store_key_value)(const float* key, const float* norm, const float* cos, const float* sin, const float* value,
                          const KvStore& kv, int64_t page, int offset, int kv_head, const AttentionShape& shape);
  void (*attend_span)(const AttentionTask& task, int64_t span, Partial* partial, float* sums);
  void (*merge)(Partial& into, float* into_sums, const Partial& from, const float* from_sums, int head_dim);
  void (*finish)(const Partial& partial, const float* sums, const float* gate, float* out, int head_dim);
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
  void (*place_head)(const float* query, const float* key, const float* value, const float* cos, const float* sin,
                     const VisionHeads& heads, int64_t head, int64_t row);
  void (*attend_picture)(const VisionHeads& heads, int64_t head, int64_t tile, int tiles, float* out,
                         int64_t out_stride, int64_t first_row, int64_t end_row);
  // Yardsticks, see base/measure.h. Inputs are [kPeakRows kPeakChains]; a chain takes 16 lanes a round.
  uint8_t (*read_bytes)(const uint8_t* p, int64_t bytes);
  int32_t (*dot_peak)(int chains, const uint8_t* codes, const int32_t* inputs, int64_t rounds);
  float (*fma_peak)(int chains, const float* weights, const float* inputs, int64_t rounds);
};

const LayoutInfo& layout_info(Layout layout);
// Which of them a build has, and which of those the machine can run: usable_tables in targets/dispatch.h.
const KernelTable* avx512_table();  // with VNNI
const KernelTable* avx512_novnni_table();
const KernelTable* avx2_vnni_table();
const KernelTable* avx2_table();
const KernelTable* neon_i8mm_table();
const KernelTable* neon_table();  // with dot products
const KernelTable* plain_table();

}  // namespace loqal
