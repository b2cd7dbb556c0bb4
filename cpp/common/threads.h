// One pool of threads for the process. The caller's thread is one of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace loqal {

// What a piece of parallel work sees of its team.
class Team {
 public:
  Team(int size) : size_(size) {}
  int size() const { return size_; }
  // Waits until every thread of the team has arrived.
  void barrier();
  // The next of `count` tasks nobody has taken yet, or -1. All threads reset it together through `restart`.
  int64_t next(int64_t count) {
    const int64_t i = cursor_.fetch_add(1, std::memory_order_relaxed);
    return i < count ? i : -1;
  }
  void restart(int thread) {
    barrier();
    if (thread == 0) cursor_.store(0, std::memory_order_relaxed);
    barrier();
  }

 private:
  const int size_;
  alignas(64) std::atomic<int> waiting_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  alignas(64) std::atomic<int64_t> cursor_{0};
};

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  int size() const { return size_; }
  // Runs work(team, thread) on every thread and returns when all have finished. One caller at a time; others wait.
  // Denormals count as zero while it runs: decayed states would cost twenty times as much otherwise.
  void run(const std::function<void(Team&, int)>& work);

 private:
  void worker(int thread);
  const int size_;
  std::mutex one_caller_;
  const std::function<void(Team&, int)>* work_ = nullptr;
  Team* team_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// CPUs this process may use: the affinity mask and the cgroup's quota, never more.
int usable_cpus();

}  // namespace loqal
