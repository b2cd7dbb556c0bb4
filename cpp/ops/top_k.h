// The largest values of rows of logits, and their ids.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/linear.h"

namespace loqal {

// The best `size` of what is offered, by value and then by lower id. The order of offers does not matter.
class TopK {
 public:
  explicit TopK(int64_t size) : size_(static_cast<size_t>(size)) {}
  void offer(int32_t id, float value) {
    if (heap_.size() == size_ && !before({id, value}, heap_.front())) return;
    insert(id, value);
  }
  // The smallest value that is worth offering.
  float threshold() const { return heap_.size() < size_ ? -INFINITY : heap_.front().value; }
  void merge(const TopK& other) {
    for (const Entry& e : other.heap_) offer(e.id, e.value);
  }
  // Best first, into ids and values [size]; leaves the heap empty. Where too few were offered (NaN never is), the rest
  // is 0 and minus infinity.
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

// The k largest of every row of x W^T: x [rows inputs], W [vocabulary inputs], without the excluded rows of W
// [num_excluded] (ascending), into ids and values [rows k]. A row of results is never stored whole.
void top_k(Cpu& cpu, const float* x, int64_t rows, const Weight& head, int64_t k, const int32_t* excluded,
           int64_t num_excluded, int32_t* ids, float* values);

// The k largest of logits [n], into ids and values [k]; returns the log-sum-exp of all.
float candidates(Cpu& cpu, const float* logits, int64_t n, int64_t k, int32_t* ids, float* values);

}  // namespace loqal
