#include "base/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace loqal {

namespace {
size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }
}  // namespace

Region::Region(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  mapped_bytes_ = bytes + kHugePageBytes;
  mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) throw std::bad_alloc();
  data_ = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<size_t>(mapped_), kHugePageBytes));
#ifdef MADV_HUGEPAGE
  // Not the last part of a huge page, which would take memory that nobody asked for.
  if (bytes >= kHugePageBytes) madvise(data_, bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
#endif
}

Region::~Region() {
  if (data_) munmap(mapped_, mapped_bytes_);
}

std::shared_ptr<uint8_t> Arena::take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  const size_t rounded = round_up(bytes, kAlignment);
  if (!chunk_ || used_ + rounded > chunk_->size()) {
    chunk_ = std::make_shared<Region>(round_up(std::max(rounded, kChunkBytes), kHugePageBytes));
    used_ = 0;
  }
  std::shared_ptr<uint8_t> piece(chunk_, chunk_->data() + used_);
  used_ += rounded;
  return piece;
}

namespace {
struct Header {
  alignas(kAlignment) size_t size;
};
static_assert(sizeof(Header) == kAlignment);

struct Kept {
  std::mutex mutex;
  std::multimap<size_t, Header*> blocks;
  size_t bytes = 0;

  Header* remove(std::multimap<size_t, Header*>::iterator place) {
    Header* header = place->second;
    bytes -= header->size;
    blocks.erase(place);
    return header;
  }
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
  const size_t size = round_up(bytes + sizeof(Header), kBlockUnit);
  {
    Kept& all = kept();
    const std::lock_guard lock(all.mutex);
    auto fit = all.blocks.lower_bound(size);
    if (fit != all.blocks.end() && fit->first <= 2 * size) return all.remove(fit) + 1;
    // A larger block takes the place of a smaller one. Without this, sizes that grow slowly would all be kept.
    if (fit != all.blocks.begin() && (--fit)->first >= size / 2) std::free(all.remove(fit));
  }
  // Not aligned_alloc, whose size must be a multiple of the alignment.
  void* memory = nullptr;
  if (posix_memalign(&memory, size < kHugePageBytes ? kAlignment : kHugePageBytes, size) != 0) throw std::bad_alloc();
  auto* header = static_cast<Header*>(memory);
#ifdef MADV_HUGEPAGE
  if (size >= kHugePageBytes) madvise(header, size / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
#endif
  header->size = size;
  return header + 1;
}

void BlockPool::give(void* block) noexcept {
  Header* header = static_cast<Header*>(block) - 1;
  Kept& all = kept();
  const std::lock_guard lock(all.mutex);
  if (header->size > kMostKept || all.bytes + header->size > kKeep) {
    std::free(header);
    return;
  }
  all.bytes += header->size;
  all.blocks.emplace(header->size, header);
}

}  // namespace loqal
