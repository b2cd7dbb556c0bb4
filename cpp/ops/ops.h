// The operations of the network over plain pointers: splitting work over threads, nothing else. The arithmetic is in
// kernels/, chosen at run time; the same calls serve one row or thousands.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "base/threads.h"
#include "kernels/table.h"
#include "layouts/pack.h"

namespace loqal {

// Raised whenever a packed layout changes, so that packed files of before are not used.
constexpr int kLayoutVersion = 1;

// One linear weight [rows inputs], or `experts` of them, as panels of 16 rows.
struct Weight {
  // `owner` keeps the panels.
  Weight(Layout layout, int64_t experts, int64_t rows, int64_t inputs, const uint8_t* packed,
         std::shared_ptr<void> owner);
  const uint8_t* panel(int64_t expert, int64_t index) const { return packed + (expert * panels + index) * panel_bytes; }
  bool quantised() const { return layout_info(layout).quantised; }
  size_t num_bytes() const { return static_cast<size_t>(experts * panels * panel_bytes); }

  Layout layout;
  int64_t experts, rows, inputs, panels, panel_bytes;
  const uint8_t* packed;
  std::shared_ptr<void> owner;
};

// Activation rows as they are and quantised; what no weight reads may be missing.
struct Inputs {
  const float* x;
  const ActivationRun* xq;
};

// One product of a call: y (+)= x W^T. Callers of Cpu::linear, whose products share rows and inputs, leave both out.
struct Product {
  const Weight* weight;
  int64_t expert;
  float* y;
  bool add;
  int64_t rows = 0;
  Inputs in{};
};

// A norm that rows go through before anything else; without a weight they do not.
struct Norm {
  const float* weight = nullptr;
  float eps = 0.0f;
};

// Some panels of one product for the rows from `tile` on, small enough that handing them out evens the threads' speeds.
struct Portion {
  const Product* product;
  int64_t first, last, tile;
  int columns;
};

// A feed-forward network over rows that lie together: a = silu(gate x) * up x, and what comes of it through down.
struct Network {
  const Weight *gate, *up, *down;
  int64_t expert, rows;
  Inputs in;
  float* a;           // [rows width], or
  ActivationRun* aq;  // where down is quantised
};

// A mixture of experts. `gate`, `up` and `down` hold one matrix per row of the router.
struct Experts {
  const Weight *router, *gate, *up, *down, *shared_router, *shared_gate, *shared_up, *shared_down;
  int64_t num_active;
};

struct StepArrays {
  const int32_t *starts, *past_len, *slots, *page_table, *capture_rows, *capture_slots;
  int64_t sequences, pages_per_sequence, captures;
  const int32_t *journals = nullptr, *pending = nullptr, *defers = nullptr;  // by sequence, or none
};

struct DeltaArrays {
  const float *qkv, *z, *beta, *alpha, *conv, *a, *dt_bias, *norm;
  float *tails, *states, *out;  // tails [slots 3 channels], states [slots value_heads 128/kStateTile 128 kStateTile]
  int key_heads, value_heads;
  float eps;
  float* journals = nullptr;  // [journals kJournalRows JournalRow]
};

struct AttentionArrays {
  const float *query_gate, *key, *value, *query_norm, *key_norm, *cos, *sin;
  KvStore kv;
  float* out;
  AttentionShape shape;
};

// What has been done so far, for whoever measures it.
struct Meter {
  std::atomic<int64_t> busy_ns{0};       // inside operations
  std::atomic<int64_t> weight_bytes{0};  // of the weights the operations multiplied with
};

// The best `size` of what is offered, by value and then by lower id. The order of offers does not matter.
class Best {
 public:
  explicit Best(int64_t size) : size_(static_cast<size_t>(size)) {}
  void offer(int32_t id, float value) {
    if (heap_.size() == size_ && !before({id, value}, heap_.front())) return;
    insert(id, value);
  }
  // The smallest value that is worth offering.
  float bar() const { return heap_.size() < size_ ? -INFINITY : heap_.front().value; }
  void merge(const Best& other) {
    for (const Entry& e : other.heap_) offer(e.id, e.value);
  }
  // Best first; leaves the heap empty. Where too few were offered (NaN never is), the rest is 0 and minus infinity.
  void take(int32_t* ids, float* values);

 private:
  struct Entry {
    int32_t id;
    float value;
  };
  static bool before(const Entry& a, const Entry& b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
  }
  void insert(int32_t id, float value);
  size_t size_;
  std::vector<Entry> heap_;  // its front is the worst
};

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

struct FloatTiles;  // activations side by side in tiles, ops/vision.cpp

class Cpu {
 public:
  Cpu(const KernelTable* table, int threads) : table_(table), pool_(threads) {}
  const KernelTable& table() const { return *table_; }
  int threads() const { return pool_.size(); }
  ThreadPool& pool() { return pool_; }
  Meter& meter() { return meter_; }

  // A weight without panels yet, and packing into its room.
  Weight room(Layout layout, int64_t experts, int64_t rows, int64_t inputs);
  void pack(Weight& w, const uint8_t* source);
  void pack_codebook(Weight& w, const CodebookFormat& format, const Codebook& book, const uint8_t* source);
  void embed(const Weight& w, const int32_t* ids, int64_t tokens, float* out);
  void rms_norm(const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps);
  void linear(const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products,
              const Norm& norm = {});
  // x may be h itself.
  void gated_mlp(float* h, const float* x, int64_t rows, const Weight& gate, const Weight& up, const Weight& down,
                 const Norm& norm = {});
  void routed_experts(float* h, const float* x, int64_t rows, const Experts& e, const Norm& norm = {});
  void gated_delta(const DeltaArrays& d, const StepArrays& step);
  void gated_attention(const AttentionArrays& a, const StepArrays& step);
  // Whole mixers: products by `weights` behind a norm, the operation above, and the product by `out` added to h, where
  // the arrays of rows and of results are scratch.
  void delta_mixer(float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                   DeltaArrays d, const StepArrays& step);
  void attention_mixer(float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                       AttentionArrays a, const StepArrays& step);
  // The k largest of every row of x W^T without the excluded rows (ascending), into ids and values [rows k]. A row of
  // results is never stored whole.
  void largest(const float* x, int64_t rows, const Weight& head, int64_t k, const int32_t* excluded,
               int64_t num_excluded, int32_t* ids, float* values);
  void rotary(const int32_t* positions, int64_t tokens, const double* frequencies, const int32_t* axes, int64_t pairs,
              double magnitude, float* cos, float* sin);
  // The vision tower, ops/vision.cpp. Attention gives rows first_row to end_row of out [rows heads*head_dim].
  void layer_norm(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                  float eps);
  void add_bias(float* x, const float* bias, int64_t rows, int64_t width);
  void gelu(float* x, int64_t count, bool exact);
  void place_heads(const float* qkv, const float* cos, const float* sin, VisionPack& pack);
  void attend_picture(const VisionPack& pack, int64_t first_row, int64_t end_row, float* out);

 private:
  struct Routing;
  Routing route(const float* x, int64_t rows, const Experts& e);
  // The part of networks before down, and all of one.
  void gate_networks(const std::vector<Network>& networks);
  void run_network(const Network& network, float* y, bool add);
  // Products of many rows with float weights: the chains of run_products, in tiles that stay in the caches.
  void run_float_tiles(const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products);
  void gate_float_tiles(const Network& network);
  template <class Use>
  void float_blocks(const FloatTiles& tiles, std::initializer_list<Product> products, Use use);
  // Packs every panel of a weight from the rows of its file.
  template <class Pack>
  void pack_panels(Weight& w, int64_t row_bytes, Pack pack);
  // Runs row(r) for every row, several at a time when one is too little to hand out.
  template <class Row>
  void for_rows(int64_t rows, int64_t row_work, Row row) {
    constexpr int64_t kSmallWork = 16384;  // values worth handing to another thread, about five microseconds
    const int64_t step = std::max<int64_t>(1, kSmallWork / std::max<int64_t>(1, row_work));
    pool_.run((rows + step - 1) / step, [&](int64_t task, int) {
      for (int64_t r = task * step; r < std::min(rows, (task + 1) * step); ++r) row(r);
    });
  }
  void quantise(const float* x, int64_t rows, int64_t inputs, ActivationRun* out);
  // Rows as products take them: normed into `normed` when there is a norm, quantised into `runs` where that is given.
  Inputs enter(const float* x, int64_t rows, int64_t inputs, const Norm& norm, float* normed, ActivationRun* runs);
  // Some panels of a weight times some rows of its inputs, from `row` on.
  void multiply(const Weight& w, int64_t expert, int64_t panel, int count, const Inputs& in, int64_t row, int columns,
                const Target& target) const;
  std::vector<Portion> portions(const std::vector<Product>& products) const;
  void run_products(const std::vector<Product>& products);
  void write_keys(const AttentionArrays& a, const StepArrays& step, const int64_t* sequence_of, float* queries);
  void attend(const AttentionArrays& a, const AttentionTask& task, int64_t row, float* scratch);

  const KernelTable* table_;
  Arena arena_;
  ThreadPool pool_;
  Meter meter_;
};

}  // namespace loqal
