#include "common/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace loqal {
namespace {

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Flush-to-zero for a scope; the caller's own setting comes back afterwards.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (1ull << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

// Spins briefly, then gives the CPU away: on a shared machine the partner may not be running at all.
template <class Done>
bool spin(Done done, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    if (done()) return true;
    pause();
  }
  return done();
}

constexpr int kSpins = 2000;

}  // namespace

void Team::barrier() {
  if (size_ == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    waiting_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  const auto passed = [&] { return phase_.load(std::memory_order_acquire) != phase; };
  if (spin(passed, kSpins)) return;
  while (!passed()) phase_.wait(phase, std::memory_order_acquire);
}

ThreadPool::ThreadPool(int threads) : size_(std::max(1, threads)) {
  for (int i = 1; i < size_; ++i) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& w : workers_) w.join();
}

void ThreadPool::run(const std::function<void(Team&, int)>& work) {
  const std::lock_guard lock(one_caller_);
  Team team(size_);
  work_ = &work;
  team_ = &team;
  running_.store(size_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  {
    const FlushDenormals flush;
    work(team, 0);
  }
  const auto finished = [&] { return running_.load(std::memory_order_acquire) == 0; };
  if (spin(finished, kSpins)) return;
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;)
    running_.wait(left, std::memory_order_acquire);
}

void ThreadPool::worker(int thread) {
  const FlushDenormals flush;
  uint32_t seen = 0;
  while (true) {
    const auto called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
    if (!spin(called, kSpins)) generation_.wait(seen, std::memory_order_acquire);
    if (!called()) continue;
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    (*work_)(*team_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_all();
  }
}

int usable_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = CPU_COUNT(&set);
  std::ifstream quota_file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (quota_file >> quota >> period && quota != "max" && period > 0)
    cpus = std::min(cpus, static_cast<int>(std::ceil(std::stod(quota) / period)));
  return std::max(1, cpus);
}

}  // namespace loqal
