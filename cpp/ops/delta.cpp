#include "ops/delta.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace loqal {
namespace {

// Floats of a layer's arrays: a row of keys, of values and of the convolution, and one state.
struct Widths {
  explicit Widths(const DeltaArrays& d)
      : key(static_cast<int64_t>(d.key_heads) * kDeltaHeadDim),
        value(static_cast<int64_t>(d.value_heads) * kDeltaHeadDim),
        channels(2 * key + value),
        state(value * kDeltaHeadDim) {}
  int64_t key, value, channels, state;
};

// Copies what one key head and its value heads keep to another slot.
void copy_head(const DeltaArrays& d, const Widths& w, const DeltaTask& task, int64_t slot) {
  const auto copy_channels = [&](int64_t channel) {
    for (int tap = 0; tap < kConvTail; ++tap)
      std::memcpy(d.tails + (slot * kConvTail + tap) * w.channels + channel, task.tail + tap * w.channels + channel,
                  kDeltaHeadDim * sizeof(float));
  };
  copy_channels(task.key_head * kDeltaHeadDim);
  copy_channels(w.key + task.key_head * kDeltaHeadDim);
  for (int64_t v = task.key_head; v < d.value_heads; v += d.key_heads) {
    copy_channels(2 * w.key + v * kDeltaHeadDim);
    std::memcpy(d.states + slot * w.state + v * kDeltaHeadDim * kDeltaHeadDim,
                task.state + v * kDeltaHeadDim * kDeltaHeadDim, kDeltaHeadDim * kDeltaHeadDim * sizeof(float));
  }
}

// What a task keeps for all its tokens. `next` is the index of the head that the thread works on afterwards, or -1.
DeltaTask head_task(const DeltaArrays& d, const StepArrays& step, const Widths& w, int64_t index, int64_t next) {
  const int64_t sequence = index / d.key_heads;
  const auto state_of = [&](int64_t i) { return d.states + step.slots[i / d.key_heads] * w.state; };
  DeltaTask task{};
  task.conv = d.conv;
  task.a = d.a;
  task.dt_bias = d.dt_bias;
  task.norm = d.norm;
  task.tail = d.tails + step.slots[sequence] * kConvTail * w.channels;
  task.state = state_of(index);
  task.next_state = next < 0 ? nullptr : state_of(next) + next % d.key_heads * kDeltaHeadDim * kDeltaHeadDim;
  task.key_head = static_cast<int>(index % d.key_heads);
  task.key_heads = d.key_heads;
  task.value_heads = d.value_heads;
  task.eps = d.eps;
  const int32_t journal = step.journals ? step.journals[sequence] : -1;
  if (journal >= 0) {
    const JournalRow record(d.key_heads, d.value_heads);
    task.journal = d.journals + journal * kJournalRows * record.floats();
    task.pending = step.pending[sequence];
    task.defers = step.defers[sequence] != 0;
  }
  return task;
}

// Runs a sequence's tokens through one key head and its value heads.
void run_head(Cpu& cpu, const DeltaArrays& d, const StepArrays& step, const Widths& w, int64_t index, int64_t next) {
  const int64_t sequence = index / d.key_heads, end = step.starts[sequence + 1];
  DeltaTask task = head_task(d, step, w, index, next);
  // A capture ends a stretch of tokens: the state in memory is then the state after that row.
  const int32_t* rows_end = step.capture_rows + step.captures;
  for (int64_t row = step.starts[sequence]; row < end || task.pending > 0;) {
    const int32_t* capture = std::lower_bound(step.capture_rows, rows_end, row);
    const bool captured = capture != rows_end && *capture < end;
    const int64_t stop = captured ? *capture + 1 : end;
    task.qkv = d.qkv + row * w.channels;
    task.z = d.z + row * w.value;
    task.beta = d.beta + row * d.value_heads;
    task.alpha = d.alpha + row * d.value_heads;
    task.out = d.out + row * w.value;
    task.num_tokens = stop - row;
    cpu.table().delta(task);
    task.pending = 0;
    for (; captured && capture != rows_end && *capture == stop - 1; ++capture)
      copy_head(d, w, task, step.capture_slots[capture - step.capture_rows]);
    row = stop;
  }
}

}  // namespace

void gated_delta(Cpu& cpu, const DeltaArrays& d, const StepArrays& step) {
  const Widths widths(d);
  // Heads of one sequence lie one after the other: a thread takes several in a row and fetches the next meanwhile.
  const int64_t heads = step.sequences * d.key_heads;
  std::vector<int64_t> firsts;
  for (int64_t i = 0; i < heads; i += std::max<int64_t>(1, (heads - i) / (2 * cpu.threads()))) firsts.push_back(i);
  firsts.push_back(heads);
  cpu.pool().run(static_cast<int64_t>(firsts.size()) - 1, [&](int64_t piece, int) {
    const int64_t end = firsts[static_cast<size_t>(piece) + 1];
    for (int64_t i = firsts[static_cast<size_t>(piece)]; i < end; ++i)
      run_head(cpu, d, step, widths, i, i + 1 == end ? -1 : i + 1);
  });
}

}  // namespace loqal
