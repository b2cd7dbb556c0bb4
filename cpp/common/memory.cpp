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

struct Kept {
  std::mutex mutex;
  std::map<size_t, std::vector<Header*>> blocks;
  size_t bytes = 0;
};
// Never destroyed: a thread may still compute, or an array be freed, while the program ends.
Kept& kept() {
  static Kept* const all = new Kept;
  return *all;
}
}  // namespace

BlockPool& BlockPool::instance() {
  static BlockPool pool;
  return pool;
}

void* BlockPool::take(size_t bytes) {
  const size_t size = std::bit_ceil(bytes + sizeof(Header) < 4096 ? size_t{4096} : bytes + sizeof(Header));
  {
    Kept& all = kept();
    const std::lock_guard lock(all.mutex);
    auto found = all.blocks.find(size);
    if (found != all.blocks.end() && !found->second.empty()) {
      Header* header = found->second.back();
      found->second.pop_back();
      all.bytes -= size;
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
  Kept& all = kept();
  const std::lock_guard lock(all.mutex);
  if (all.bytes + header->size > kKeep) {
    std::free(header);
    return;
  }
  all.bytes += header->size;
  all.blocks[header->size].push_back(header);
}

}  // namespace loqal
