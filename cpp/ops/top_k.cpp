#include "ops/top_k.h"

#include <algorithm>

namespace loqal {

void TopK::insert(int32_t id, float value) {
  if (heap_.size() == size_) {
    std::pop_heap(heap_.begin(), heap_.end(), before);
    heap_.back() = {id, value};
  } else {
    heap_.push_back({id, value});
  }
  std::push_heap(heap_.begin(), heap_.end(), before);
}

void TopK::take(int32_t* ids, float* values) {
  std::sort_heap(heap_.begin(), heap_.end(), before);
  for (size_t i = 0; i < size_; ++i) {
    ids[i] = i < heap_.size() ? heap_[i].id : 0;
    values[i] = i < heap_.size() ? heap_[i].value : -INFINITY;
  }
  heap_.clear();
}

void top_k(Cpu& cpu, const float* x, int64_t rows, const Weight& head, int64_t k, const int32_t* excluded,
           int64_t num_excluded, int32_t* ids, float* values) {
  cpu.meter().weight_bytes += head.expert_bytes();
  if (k <= 0) return;
  const Scratch<ActivationRun> runs(head.quantized() ? rows * head.inputs / kRun : 0);

  const Inputs in = prepare_inputs(cpu, x, rows, head.inputs, {}, nullptr, runs.data);
  const std::vector<Product> products = {{&head, 0, nullptr, false, 1}};
  const std::vector<PanelRange> work = panel_ranges(cpu, products);
  const auto multiply_panels = cpu.table().multiply_panels[static_cast<int>(head.layout)];
  for (int64_t tile = 0; tile < rows; tile += kTileRows) {
    const int columns = static_cast<int>(std::min<int64_t>(kTileRows, rows - tile));
    std::vector<TopK> best(static_cast<size_t>(cpu.threads() * columns), TopK(k));
    cpu.pool().run(static_cast<int64_t>(work.size()), [&](int64_t task, int thread) {
      alignas(64) float out[kTileRows * kRows];
      for (int64_t i = work[static_cast<size_t>(task)].first; i < work[static_cast<size_t>(task)].last; ++i) {
        multiply_panels(panel_task(cpu, head, 0, i, 1, in, tile, columns, {out, kRows, false}));
        const int width = static_cast<int>(std::min<int64_t>(kRows, head.rows - i * kRows));
        for (int c = 0; c < columns; ++c) {
          TopK& mine = best[static_cast<size_t>(thread * columns + c)];
          for (int r = 0; r < width; ++r) {
            const auto id = static_cast<int32_t>(i * kRows + r);
            if (out[c * kRows + r] >= mine.threshold() && !std::binary_search(excluded, excluded + num_excluded, id))
              mine.offer(id, out[c * kRows + r]);
          }
        }
      }
    });
    for (int c = 0; c < columns; ++c) {
      for (int t = 1; t < cpu.threads(); ++t)
        best[static_cast<size_t>(c)].merge(best[static_cast<size_t>(t * columns + c)]);
      best[static_cast<size_t>(c)].take(ids + (tile + c) * k, values + (tile + c) * k);
    }
  }
}

float candidates(Cpu& cpu, const float* logits, int64_t n, int64_t k, int32_t* ids, float* values) {
  TopK best(k);
  for (int32_t i = 0; i < n && k > 0; ++i)
    if (logits[i] >= best.threshold()) best.offer(i, logits[i]);
  best.take(ids, values);
  return cpu.table().log_sum_exp(logits, n);
}

}  // namespace loqal
