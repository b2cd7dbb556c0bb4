#include "base/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/memory.h"
#include "targets/dispatch.h"

namespace loqal {
namespace {

constexpr int kPasses = 5;
constexpr int64_t kReadBytes = 1 << 20;    // handed out at a time: a long read, and no thread waits for a slow one
constexpr int64_t kTasksPerThread = 8;     // so that a thread that is slow to wake up costs little
constexpr double kLongEnough = 5e-3;       // seconds; what is shorter is mostly the cost of starting
constexpr int kChains[] = {4, 6, 12, 16};  // of measure-inl.h
constexpr int kLanes = 16;

// Results of the measured loops end here, so that they are needed.
std::atomic<double> sink{0};

template <class Work>
double seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The best rate of rounds of `ops_per_chain` operations a chain, over all numbers of chains.
template <class Loop>
double best_rate(ThreadPool& pool, double ops_per_chain, Loop loop) {
  double best = 0;
  for (const int chains : kChains) {
    const int64_t tasks = kTasksPerThread * pool.size();
    int64_t rounds = 64;
    const auto once = [&] {
      return seconds([&] { pool.run(tasks, [&](int64_t, int) { sink = loop(chains, rounds); }); });
    };
    while (once() < kLongEnough) rounds *= 2;
    double shortest = once();
    for (int pass = 1; pass < kPasses; ++pass) shortest = std::min(shortest, once());
    best = std::max(best, ops_per_chain * chains * static_cast<double>(rounds * tasks) / shortest);
  }
  return best * 1e-9;
}

}  // namespace

double read_gb_per_s(const KernelTable& table, ThreadPool& pool, size_t bytes) {
  const auto parts = static_cast<int64_t>(std::max<size_t>(1, bytes / kReadBytes));
  const Region region(static_cast<size_t>(parts * kReadBytes));
  pool.run(parts, [&](int64_t part, int) { std::memset(region.data() + part * kReadBytes, 1, kReadBytes); });
  const bool prefetches = !hardware_prefetches();
  double shortest = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const double took = seconds([&] {
      pool.run(parts, [&](int64_t part, int) {
        sink = table.read_bytes(region.data() + part * kReadBytes, kReadBytes, prefetches);
      });
    });
    shortest = pass == 0 ? took : std::min(shortest, took);
  }
  return static_cast<double>(parts * kReadBytes) / shortest * 1e-9;
}

double int8_gops(const KernelTable& table, ThreadPool& pool) {
  alignas(64) uint8_t codes[4 * kLanes];
  alignas(64) int32_t inputs[kPeakRows * kPeakChains];
  for (int i = 0; i < 4 * kLanes; ++i) codes[i] = static_cast<uint8_t>(i % 16);
  // Rows of opposite sign follow each other, so that sums stay small.
  for (int i = 0; i < kPeakRows * kPeakChains; ++i) {
    const int sign = i / kPeakChains % 2 ? -1 : 1, value = sign * (1 + i % kPeakChains);
    inputs[i] = static_cast<int32_t>(static_cast<uint32_t>(value & 0xff) * 0x01010101u);
  }
  return best_rate(pool, 4 * kLanes * 2,
                   [&](int chains, int64_t rounds) { return table.dot_peak(chains, codes, inputs, rounds); });
}

double float_gflops(const KernelTable& table, ThreadPool& pool) {
  alignas(64) float weights[kLanes], inputs[kPeakRows * kPeakChains];
  for (int i = 0; i < kLanes; ++i) weights[i] = static_cast<float>(i + 1);
  for (int i = 0; i < kPeakRows * kPeakChains; ++i)
    inputs[i] = static_cast<float>((i / kPeakChains % 2 ? -1 : 1) * (1 + i % kPeakChains));
  return best_rate(pool, kLanes * 2,
                   [&](int chains, int64_t rounds) { return table.fma_peak(chains, weights, inputs, rounds); });
}

}  // namespace loqal
