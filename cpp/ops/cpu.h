// What operations run on: the kernels of one instruction set, the threads, and the memory of packed weights.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/memory.h"
#include "base/threads.h"
#include "kernels/table.h"
#include "targets/dispatch.h"

namespace loqal {

// What has been done so far, for whoever measures it.
struct Meter {
  std::atomic<int64_t> busy_ns{0};       // inside operations
  std::atomic<int64_t> weight_bytes{0};  // of the weights the operations multiplied with
};

class Cpu {
 public:
  Cpu(const KernelTable* table, int threads)
      : table_(table), hardware_prefetches_(loqal::hardware_prefetches()), pool_(threads) {}
  const KernelTable& table() const { return *table_; }
  bool hardware_prefetches() const { return hardware_prefetches_; }
  int threads() const { return pool_.size(); }
  ThreadPool& pool() { return pool_; }
  Arena& arena() { return arena_; }
  Meter& meter() { return meter_; }

 private:
  const KernelTable* table_;
  const bool hardware_prefetches_;
  Arena arena_;
  ThreadPool pool_;
  Meter meter_;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Runs row(r) for every row, several at a time when one is too little to hand out. `row_work`: values a row computes.
template <class Row>
void for_rows(Cpu& cpu, int64_t rows, int64_t row_work, Row row) {
  constexpr int64_t kSmallWork = 16384;  // values worth handing to another thread, about five microseconds
  const int64_t step = std::max<int64_t>(1, kSmallWork / std::max<int64_t>(1, row_work));
  cpu.pool().run((rows + step - 1) / step, [&](int64_t task, int) {
    for (int64_t r = task * step; r < std::min(rows, (task + 1) * step); ++r) row(r);
  });
}

}  // namespace loqal
