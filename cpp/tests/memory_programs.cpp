// Memory of weights and of results: alignment, zeros, who keeps what alive, and what is handed out again.
#include <thread>

#include "base/memory.h"
#include "support.h"

namespace loqal::tests {
namespace {

bool aligned(const void* p, size_t unit) { return reinterpret_cast<uintptr_t>(p) % unit == 0; }

bool is_zero(const uint8_t* p, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    if (p[i]) return false;
  return true;
}

void region_program(const KernelTable&, int, Record&) {
  constexpr size_t kHuge = size_t{2} << 20;
  for (const size_t bytes : {size_t{1}, size_t{4097}, kHuge, kHuge + 1}) {
    const Region region(bytes);
    expect(region.size() == bytes, "region: not the size asked for");
    expect(aligned(region.data(), kHuge), "region: it does not begin at a huge page");
    expect(is_zero(region.data(), bytes), "region: new memory is not zero");
    region.data()[bytes - 1] = 1;
  }
  expect(Region(0).data() == nullptr, "region: memory for nothing");
}

void arena_program(const KernelTable&, int, Record&) {
  Arena arena;
  const std::shared_ptr<uint8_t> first = arena.take(100), second = arena.take(1), third = arena.take(64);
  for (const auto& piece : {first, second, third}) expect(aligned(piece.get(), 64), "arena: a piece is not aligned");
  expect(second.get() == first.get() + 128 && third.get() == second.get() + 64, "arena: pieces leave gaps");
  expect(is_zero(first.get(), 192), "arena: a piece is not zero");
  // A piece that the rest of the chunk cannot hold begins another; larger than any chunk, it has one to itself.
  const std::shared_ptr<uint8_t> large = arena.take(size_t{63} << 20), larger = arena.take(size_t{65} << 20);
  large.get()[(size_t{63} << 20) - 1] = larger.get()[(size_t{65} << 20) - 1] = 1;
  expect(larger.get() + (size_t{65} << 20) <= large.get() || large.get() + (size_t{63} << 20) <= larger.get(),
         "arena: pieces overlap");
}

// The last piece of a chunk keeps it; the sanitizers see what is read afterwards.
void arena_lifetime(const KernelTable&, int, Record&) {
  std::shared_ptr<uint8_t> piece;
  {
    Arena arena;
    arena.take(1000).get()[0] = 1;
    piece = arena.take(1000);
    piece.get()[999] = 7;
  }
  expect(piece.get()[999] == 7 && piece.get()[0] == 0, "arena: a piece did not outlive its arena");
}

void arena_threads(const KernelTable&, int, Record&) {
  Arena arena;
  std::vector<std::vector<std::shared_ptr<uint8_t>>> pieces(3);
  std::vector<std::thread> takers;
  for (auto& mine : pieces)
    takers.emplace_back([&arena, &mine] {
      for (size_t i = 1; i < 200; ++i) mine.push_back(arena.take(i));
    });
  for (std::thread& taker : takers) taker.join();
  for (size_t t = 0; t < pieces.size(); ++t)
    for (size_t i = 0; i < pieces[t].size(); ++i) std::memset(pieces[t][i].get(), static_cast<int>(1 + t), i + 1);
  for (size_t t = 0; t < pieces.size(); ++t)
    for (size_t i = 0; i < pieces[t].size(); ++i)
      for (size_t at = 0; at <= i; ++at)
        expect(pieces[t][i].get()[at] == 1 + t, "arena: two threads were given the same bytes");
}

// Sizes that no operation takes, so that nothing else is in the pool's way.
constexpr size_t kBlock = (size_t{37} << 20) + 4096 * 5;

void pool_reuse(const KernelTable&, int, Record&) {
  BlockPool& pool = BlockPool::instance();
  void* block = pool.take(kBlock);
  expect(aligned(block, 64), "block pool: a block is not aligned");
  std::memset(block, 1, kBlock);
  BlockPool::give(block);
  expect(pool.take(kBlock) == block, "block pool: a freed block was not handed out again");
  BlockPool::give(block);
  void* less = pool.take(kBlock - kBlock / 3);
  expect(less == block, "block pool: a freed block does not serve for less");
  BlockPool::give(less);
  void* half = pool.take(kBlock / 3);
  expect(half != block, "block pool: a block serves for less than half of it");
  BlockPool::give(half);
  // A larger block takes the place of this one, which is then no longer kept.
  void* larger = pool.take(kBlock + kBlock / 4);
  BlockPool::give(larger);
  expect(pool.take(kBlock) == larger, "block pool: a larger block is not kept in the place of a smaller one");
  BlockPool::give(larger);
}

void pool_limits(const KernelTable&, int, Record&) {
  BlockPool& pool = BlockPool::instance();
  for (int round = 0; round < 3; ++round) {  // given back to the system: reads after that would be seen
    void* block = pool.take(BlockPool::kMostKept + 1);
    static_cast<uint8_t*>(block)[BlockPool::kMostKept] = 1;
    BlockPool::give(block);
  }
  std::vector<void*> blocks;
  for (size_t bytes = 0; bytes <= BlockPool::kKeep; bytes += BlockPool::kMostKept / 2)
    blocks.push_back(pool.take(BlockPool::kMostKept / 2));
  for (void* block : blocks) BlockPool::give(block);
  expect(Scratch<float>(0).data == nullptr, "scratch: memory for nothing");
}

void pool_threads(const KernelTable&, int, Record&) {
  std::vector<std::thread> users;
  for (int user = 0; user < 3; ++user)
    users.emplace_back([user] {
      for (int64_t round = 0; round < 300; ++round) {
        const Scratch<int32_t> one(100 + round % 7 * 1000), two(5000);
        for (int64_t i = 0; i < 100; ++i) one.data[i] = two.data[i] = user;
        for (int64_t i = 0; i < 100; ++i)
          expect(one.data[i] == user && two.data[i] == user, "block pool: two threads were given the same block");
      }
    });
  for (std::thread& user : users) user.join();
}

}  // namespace

std::vector<Program> memory_programs() {
  return {{"memory/region", region_program},    {"memory/arena", arena_program},
          {"memory/lifetime", arena_lifetime},  {"memory/arena_threads", arena_threads},
          {"memory/pool_reuse", pool_reuse},    {"memory/pool_limits", pool_limits},
          {"memory/pool_threads", pool_threads}};
}

}  // namespace loqal::tests
