// The thread pool: every task once, seen by the caller, on a thread of its own; nothing lost while threads sleep, while
// several callers compete, or while the pool is taken down.
#include <chrono>
#include <thread>

#include "base/threads.h"
#include "support.h"

namespace loqal::tests {
namespace {

// Plain memory on purpose: a task that ran twice, ran late or shared its thread is a data race.
void count_tasks(ThreadPool& pool, int64_t tasks) {
  std::vector<int> runs(static_cast<size_t>(tasks));
  std::vector<int64_t> per_thread(static_cast<size_t>(pool.size()));
  pool.run(tasks, [&](int64_t task, int thread) {
    ++runs[static_cast<size_t>(task)];
    ++per_thread[static_cast<size_t>(thread)];
  });
  int64_t total = 0;
  for (const int n : runs) expect(n == 1, "pool: a task did not run exactly once");
  for (const int64_t n : per_thread) total += n;
  expect(total == tasks, "pool: tasks and their threads do not add up");
}

void every_task_once(const KernelTable&, int, Record&) {
  ThreadPool pool(4);
  for (int round = 0; round < 20; ++round)
    for (int64_t tasks = 0; tasks < 70; ++tasks) count_tasks(pool, tasks);
}

void sleeping_threads(const KernelTable&, int, Record&) {
  ThreadPool pool(3);
  for (int round = 0; round < 30; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    count_tasks(pool, 16);
  }
}

void several_callers(const KernelTable&, int, Record&) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i)
    callers.emplace_back([&pool] {
      for (int64_t round = 0; round < 300; ++round) count_tasks(pool, 2 + round % 9);
    });
  for (std::thread& caller : callers) caller.join();
}

void short_lives(const KernelTable&, int, Record&) {
  for (int64_t round = 0; round < 200; ++round) {
    ThreadPool pool(3);
    if (round % 3) count_tasks(pool, round % 5);
    if (round % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

void denormals(const KernelTable&, int, Record&) {
  ThreadPool pool(2);
  for (int round = 0; round < 50; ++round) {
    std::vector<int> counted(64);
    pool.run(64, [&](int64_t task, int) { counted[static_cast<size_t>(task)] = denormals_count(); });
    for (const int c : counted) expect(c == 0, "pool: a denormal counted inside a task");
  }
}

}  // namespace

std::vector<Program> pool_programs() {
  return {{"pool/every_task_once", every_task_once},
          {"pool/sleeping_threads", sleeping_threads},
          {"pool/several_callers", several_callers},
          {"pool/short_lives", short_lives},
          {"pool/denormals", denormals}};
}

}  // namespace loqal::tests
