#include "common/memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace loqal {

Region::Region(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  // Rounded to small pages only: neighbouring regions form one mapping, in which the system can still place huge ones.
  constexpr size_t kPageBytes = 4096;
  size_ = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* p = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  madvise(p, size_, MADV_HUGEPAGE);
#endif
  data_ = static_cast<uint8_t*>(p);
}

Region::~Region() {
  if (data_) munmap(data_, size_);
}

namespace {
struct Header {
  alignas(64) size_t size;
};
std::mutex mutex;
std::map<size_t, std::vector<Header*>> kept;
size_t kept_bytes = 0;
}  // namespace

BlockPool& BlockPool::instance() {
  static BlockPool pool;
  return pool;
}

void* BlockPool::take(size_t bytes) {
  const size_t size = std::bit_ceil(bytes + sizeof(Header) < 4096 ? size_t{4096} : bytes + sizeof(Header));
  {
    const std::lock_guard lock(mutex);
    auto found = kept.find(size);
    if (found != kept.end() && !found->second.empty()) {
      Header* header = found->second.back();
      found->second.pop_back();
      kept_bytes -= size;
      return header + 1;
    }
  }
  auto* header = static_cast<Header*>(std::aligned_alloc(64, size));
  if (!header) throw std::bad_alloc();
  header->size = size;
  return header + 1;
}

void BlockPool::give(void* block) noexcept {
  Header* header = static_cast<Header*>(block) - 1;
  const std::lock_guard lock(mutex);
  if (kept_bytes + header->size > kKeep) {
    std::free(header);
    return;
  }
  kept_bytes += header->size;
  kept[header->size].push_back(header);
}

}  // namespace loqal
