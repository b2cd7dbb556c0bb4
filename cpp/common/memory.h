// Memory for packed weights and for the results of operations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace loqal {

// Anonymous zeroed memory, huge pages requested. Throws std::bad_alloc when the system refuses.
class Region {
 public:
  explicit Region(size_t bytes);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Blocks for results. A freed block is kept and handed out again, so a step does not fault its pages in anew.
// Thread safe; keeps at most kKeep bytes.
class BlockPool {
 public:
  static constexpr size_t kKeep = size_t{512} << 20;
  static BlockPool& instance();
  void* take(size_t bytes);
  static void give(void* block) noexcept;
};

}  // namespace loqal
