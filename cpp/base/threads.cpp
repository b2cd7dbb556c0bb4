#include "base/threads.h"

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

// About 50 microseconds: longer than the pauses inside a token, shorter than anybody would mind.
constexpr int kSpins = 2000;

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& w : workers_) w.join();
}

bool ThreadPool::work_once(int thread) {
  uint64_t at = cursor_.load(std::memory_order_acquire);
  while (true) {
    const int64_t count = count_.load(std::memory_order_acquire);
    const Call call = call_.load(std::memory_order_relaxed);
    void* const work = work_.load(std::memory_order_relaxed);
    const auto task = static_cast<int64_t>(at & 0xffffffff);
    if (task >= count) return false;
    if (cursor_.compare_exchange_weak(at, at + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      call(work, task, thread);
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
}

void ThreadPool::run(int64_t count, Call call, void* work) {
  if (count <= 0) return;
  const FlushDenormals flush;
  if (count == 1 || workers_.empty()) {
    for (int64_t task = 0; task < count; ++task) call(work, task, 0);
    return;
  }
  const std::lock_guard lock(one_caller_);
  const uint64_t job = (cursor_.load(std::memory_order_relaxed) >> 32) + 1;
  // No task can be taken while the fields change: the old job has none left, and a late compare-and-swap for it
  // would need its number in the cursor. Release and acquire on the count see to it that whoever reads the new count
  // meets the new cursor as well; otherwise the old job's cursor with the new count would look like one more task.
  cursor_.store(job << 32 | 0xffffffff, std::memory_order_relaxed);
  count_.store(count, std::memory_order_release);
  call_.store(call, std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  cursor_.store(job << 32, std::memory_order_release);
  // Sequentially consistent, as is the count of sleepers that notify_all looks at: one of both sides sees the other.
  epoch_.fetch_add(1);
  epoch_.notify_all();
  while (work_once(0)) {
  }
  for (int spins = 0; done_.load(std::memory_order_acquire) != count; ++spins) {
    if (spins < kSpins) pause();
    else std::this_thread::yield();
  }
}

void ThreadPool::worker(int thread) {
  const FlushDenormals flush;
  for (int idle = 0;;) {
    // In this order: a thread that read the last epoch also sees the stop, and never waits for another epoch.
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (work_once(thread)) {
      idle = 0;
    } else if (++idle < kSpins) {
      pause();
    } else {
      epoch_.wait(epoch, std::memory_order_acquire);
      idle = 0;
    }
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
