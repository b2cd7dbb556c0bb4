#include "ops/attention.h"

#include <algorithm>
#include <vector>

namespace loqal {
namespace {

// The sequence and position of every row of a step.
class RowPlaces {
 public:
  explicit RowPlaces(const StepArrays& step) : step_(step), sequence_of_(static_cast<size_t>(step.rows())) {
    for (int64_t s = 0; s < step.sequences; ++s)
      std::fill(sequence_of_.begin() + step.starts[s], sequence_of_.begin() + step.starts[s + 1], s);
  }
  int64_t sequence(int64_t row) const { return sequence_of_[static_cast<size_t>(row)]; }
  int64_t position(int64_t row) const {
    const int64_t s = sequence(row);
    return step_.past_len[s] + row - step_.starts[s];
  }

 private:
  const StepArrays& step_;
  std::vector<int64_t> sequence_of_;
};

// Prepares the queries of all rows, [T H head_dim], and stores their keys and values.
void write_rows(Cpu& cpu, const AttentionArrays& a, const StepArrays& step, const RowPlaces& places, float* queries) {
  const AttentionShape& s = a.shape;
  const int64_t half = s.rotary_dim / 2;
  for_rows(cpu, step.rows(), (s.heads + 2 * s.kv_heads) * s.head_dim, [&](int64_t row) {
    const int64_t sequence = places.sequence(row), position = places.position(row);
    const int64_t page = step.page_table[sequence * step.pages_per_sequence + position / kPage];
    const float *cos = a.cos + row * half, *sin = a.sin + row * half;
    for (int h = 0; h < s.heads; ++h)
      cpu.table().prepare_query(a.query_gate + (row * s.heads + h) * 2 * s.head_dim, a.query_norm, cos, sin,
                                queries + (row * s.heads + h) * s.head_dim, s);
    for (int h = 0; h < s.kv_heads; ++h)
      cpu.table().store_key_value(a.key + (row * s.kv_heads + h) * s.head_dim, a.key_norm, cos, sin,
                                  a.value + (row * s.kv_heads + h) * s.head_dim, a.kv, page,
                                  static_cast<int>(position % kPage), h, s);
  });
}

// Attends from the rows of one task, `row` on; `scratch` [2 kQueryRows group head_dim].
void attend(const KernelTable& table, const AttentionArrays& a, const AttentionTask& task, int64_t row,
            float* scratch) {
  const int64_t spans = task.position / kSpan + 1;
  const int count = task.rows * task.group;
  std::vector<SoftmaxPartial> total(static_cast<size_t>(count)), partial(static_cast<size_t>(count));
  float *total_sums = scratch, *sums = scratch + static_cast<int64_t>(count) * task.head_dim;
  table.attend_span(task, 0, total.data(), total_sums);
  for (int64_t span = 1; span < spans; ++span) {
    table.attend_span(task, span, partial.data(), sums);
    for (int i = 0; i < count; ++i)
      table.merge(total[static_cast<size_t>(i)], total_sums + i * task.head_dim, partial[static_cast<size_t>(i)],
                  sums + i * task.head_dim, task.head_dim);
  }
  for (int i = 0; i < count; ++i) {
    const int64_t head = (row + i / task.group) * a.shape.heads + task.kv_head * task.group + i % task.group;
    table.finish(total[static_cast<size_t>(i)], total_sums + i * task.head_dim,
                 a.query_gate + head * 2 * task.head_dim + task.head_dim, a.out + head * task.head_dim, task.head_dim);
  }
}

// First rows of blocks that attend together, of one sequence and in one span, and the end.
std::vector<int64_t> row_blocks(int64_t rows, const RowPlaces& places) {
  std::vector<int64_t> firsts;
  for (int64_t row = 0; row < rows;) {
    firsts.push_back(row);
    const int64_t last = row + kQueryRows - 1;
    const bool together = last < rows && places.sequence(last) == places.sequence(row) &&
                          places.position(last) / kSpan == places.position(row) / kSpan;
    row += together ? kQueryRows : 1;
  }
  firsts.push_back(rows);
  return firsts;
}

}  // namespace

void gated_attention(Cpu& cpu, const AttentionArrays& a, const StepArrays& step) {
  const AttentionShape& s = a.shape;
  const int group = s.heads / s.kv_heads;
  const int64_t rows = step.rows(), floats = static_cast<int64_t>(kQueryRows) * group * s.head_dim;
  const Scratch<float> queries(rows * s.heads * s.head_dim), sums(2 * floats * cpu.threads());
  const RowPlaces places(step);
  write_rows(cpu, a, step, places, queries.data);
  const std::vector<int64_t> firsts = row_blocks(rows, places);
  const auto blocks = static_cast<int64_t>(firsts.size()) - 1;
  cpu.pool().run(blocks * s.kv_heads, [&](int64_t i, int thread) {
    // The last rows have the most keys: handed out first, they leave small tasks for the end.
    const auto block = static_cast<size_t>(blocks - 1 - i / s.kv_heads);
    const int64_t row = firsts[block];
    const int kv_head = static_cast<int>(i % s.kv_heads);
    AttentionTask task;
    task.query = queries.data + (row * s.heads + kv_head * group) * s.head_dim;
    task.query_stride = static_cast<int64_t>(s.heads) * s.head_dim;
    task.rows = static_cast<int>(firsts[block + 1] - row);
    task.kv = a.kv;
    task.page_table = step.page_table + places.sequence(row) * step.pages_per_sequence;
    task.position = places.position(row);
    task.group = group;
    task.kv_head = kv_head;
    task.kv_heads = s.kv_heads;
    task.head_dim = s.head_dim;
    attend(cpu.table(), a, task, row, sums.data + 2 * floats * thread);
  });
}

}  // namespace loqal
