// Memory for packed weights and for the results of operations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

namespace loqal {

// What ops/counting.py reckons with as well; tests/ops/test_constants.py compares them.
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kChunkBytes = size_t{64} << 20;  // of an arena, in address space: only what is written takes memory
constexpr size_t kAlignment = 64;                 // of every piece and block; what a block keeps before its data
constexpr size_t kBlockUnit = 4096;               // blocks for results are multiples of it

// Anonymous zeroed memory that starts at a huge page, huge pages requested. Throws std::bad_alloc when the system
// refuses.
class Region {
 public:
  explicit Region(size_t bytes);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Room for many weights one after the other, so that small ones share huge pages. A chunk lives as long as the last
// piece of it. Thread safe.
class Arena {
 public:
  // Zeroed bytes at a multiple of 64. Throws std::bad_alloc when the system refuses.
  std::shared_ptr<uint8_t> take(size_t bytes);

 private:
  std::mutex mutex_;
  std::shared_ptr<Region> chunk_;
  size_t used_ = 0;
};

// Blocks for results. A freed block is kept and handed out again, so a step does not fault its pages in anew; also for
// less than it holds, down to half. What is kept therefore never exceeds twice what was in use at once, however the
// sizes of steps change. Thread safe; keeps at most kKeep bytes, and no block larger than kMostKept: such belong to
// pictures, of which hardly two are of one size.
class BlockPool {
 public:
  static constexpr size_t kKeep = size_t{512} << 20, kMostKept = size_t{64} << 20;
  static BlockPool& instance();
  void* take(size_t bytes);
  static void give(void* block) noexcept;
};

// A block of the pool for a while; null when count is 0.
template <class T>
struct Scratch {
  explicit Scratch(int64_t count)
      : data(count ? static_cast<T*>(BlockPool::instance().take(static_cast<size_t>(count) * sizeof(T))) : nullptr) {}
  ~Scratch() {
    if (data) BlockPool::give(data);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data;
};

}  // namespace loqal
