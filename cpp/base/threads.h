// One pool of threads. The caller's thread works too.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace loqal {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs work(task, thread) for every task in 0 .. count-1 and returns when all have finished. `thread` is in
  // 0 .. size()-1 and belongs to one task at a time.
  //
  // Tasks are handed out, not dealt, and the caller waits for tasks, not for threads: a worker whose CPU another
  // program has taken holds nobody up unless it is inside a task. Denormals count as zero meanwhile, since decayed
  // states would cost twenty times as much. One caller at a time; others wait. Work must not throw (the program ends)
  // nor call run itself.
  template <class Work>
  void run(int64_t count, Work&& work) {
    using Plain = std::remove_reference_t<Work>;
    run(
        count, [](void* w, int64_t task, int thread) noexcept { (*static_cast<Plain*>(w))(task, thread); },
        const_cast<std::remove_const_t<Plain>*>(&work));
  }

 private:
  using Call = void (*)(void* work, int64_t task, int thread) noexcept;
  void run(int64_t count, Call call, void* work);
  bool work_once(int thread);
  void worker(int thread);

  // The job. `cursor_` holds its number in the upper half and the next task in the lower. A thread reads the other
  // fields, then takes a task by compare-and-swap: success means that the job was still the same one, and the caller
  // does not replace it before every task is done.
  alignas(64) std::atomic<uint64_t> cursor_{0};
  std::atomic<int64_t> count_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> work_{nullptr};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // parked workers wait for it to change
  std::atomic<bool> stop_{false};
  std::mutex one_caller_;
  std::vector<std::thread> workers_;
};

// CPUs this process may use: the affinity mask and the cgroup's quota, never more.
int usable_cpus();

}  // namespace loqal
