#include "ops/ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>

namespace loqal {
namespace {

// Portions shrink towards the end, where what one thread still has to do keeps the others waiting. The smallest:
constexpr int64_t kSmallPortionBytes = 16 << 10;
// Rows from which float weights are worth tiling.
constexpr int64_t kTiledRows = 24;

}  // namespace

Weight::Weight(Layout l, int64_t e, int64_t r, int64_t k, const uint8_t* data, std::shared_ptr<void> o)
    : layout(l),
      experts(e),
      rows(r),
      inputs(k),
      panels((r + kRows - 1) / kRows),
      panel_bytes(k / layout_info(l).inputs * layout_info(l).group_bytes),
      packed(data),
      owner(std::move(o)) {}

Weight Cpu::room(Layout layout, int64_t experts, int64_t rows, int64_t inputs) {
  Weight w(layout, experts, rows, inputs, nullptr, nullptr);
  const std::shared_ptr<uint8_t> piece = arena_.take(w.num_bytes());
  w.packed = piece.get();
  w.owner = piece;
  return w;
}

template <class Pack>
void Cpu::pack_panels(Weight& w, int64_t row_bytes, Pack pack) {
  auto* room = const_cast<uint8_t*>(w.packed);
  pool_.run(w.experts * w.panels, [&](int64_t i, int) {
    const int64_t expert = i / w.panels, first = i % w.panels * kRows;
    const int rows = static_cast<int>(std::min<int64_t>(kRows, w.rows - first));
    pack((expert * w.rows + first) * row_bytes, rows, room + i * w.panel_bytes);
  });
}

void Cpu::pack(Weight& w, const uint8_t* source) {
  pack_panels(w, file_row_bytes(w.layout, w.inputs),
              [&](int64_t at, int rows, uint8_t* panel) { pack_panel(w.layout, source + at, rows, w.inputs, panel); });
}

void Cpu::pack_codebook(Weight& w, const CodebookFormat& format, const Codebook& book, const uint8_t* source) {
  pack_panels(w, w.inputs / kCodebookBlock * format.block_bytes, [&](int64_t at, int rows, uint8_t* panel) {
    pack_panel_codebook(format, book, source + at, rows, w.inputs, panel);
  });
}

void Cpu::embed(const Weight& w, const int32_t* ids, int64_t tokens, float* out) {
  for_rows(tokens, w.inputs, [&](int64_t t) {
    table_->read_row(w.layout, w.panel(0, ids[t] / kRows), w.inputs, ids[t] % kRows, out + t * w.inputs);
  });
}

void Cpu::rms_norm(const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps) {
  for_rows(rows, width, [&](int64_t r) { table_->rms_norm(x + r * width, weight, y + r * width, width, eps); });
}

void Cpu::quantise(const float* x, int64_t rows, int64_t inputs, ActivationRun* out) {
  for_rows(rows, inputs, [&](int64_t r) { table_->quantise(x + r * inputs, inputs, out + r * inputs / kRun); });
}

Inputs Cpu::enter(const float* x, int64_t rows, int64_t inputs, const Norm& norm, float* normed, ActivationRun* runs) {
  if (!norm.weight) {
    if (runs) quantise(x, rows, inputs, runs);
    return {x, runs};
  }
  for_rows(rows, inputs, [&](int64_t r) {
    float* row = normed + r * inputs;
    table_->rms_norm(x + r * inputs, norm.weight, row, inputs, norm.eps);
    if (runs) table_->quantise(row, inputs, runs + r * inputs / kRun);
  });
  return {normed, runs};
}

std::vector<Portion> Cpu::portions(const std::vector<Product>& products) const {
  std::vector<Portion> out;
  int64_t most = 0;
  for (const Product& p : products) most = std::max(most, p.rows);
  for (int64_t tile = 0; tile < most; tile += kTileRows) {
    int64_t left = 0;
    for (const Product& p : products) left += p.rows > tile ? p.weight->panels * p.weight->panel_bytes : 0;
    for (const Product& p : products)
      for (int64_t i = 0; p.rows > tile && i < p.weight->panels;) {
        const int64_t wanted = std::max(left / (2 * threads()), kSmallPortionBytes) / p.weight->panel_bytes;
        const int64_t end = std::min(i + std::max<int64_t>(wanted / kPanels * kPanels, kPanels), p.weight->panels);
        out.push_back({&p, i, end, tile, static_cast<int>(std::min<int64_t>(kTileRows, p.rows - tile))});
        left -= (end - i) * p.weight->panel_bytes;
        i = end;
      }
  }
  return out;
}

void Cpu::multiply(const Weight& w, int64_t expert, int64_t panel, int count, const Inputs& in, int64_t row,
                   int columns, const Target& target) const {
  const int64_t stride = w.quantised() ? w.inputs / kRun : w.inputs;
  table_->panels(w.layout, w.panel(expert, panel), w.panel_bytes, count, w.inputs,
                 in.xq ? in.xq + row * stride : nullptr, in.x ? in.x + row * stride : nullptr, stride, columns, target);
}

void Cpu::run_products(const std::vector<Product>& products) {
  const std::vector<Portion> work = portions(products);
  pool_.run(static_cast<int64_t>(work.size()), [&](int64_t task, int) {
    const Portion& portion = work[static_cast<size_t>(task)];
    const Product& p = *portion.product;
    const Weight& w = *p.weight;
    const int64_t whole = std::min(portion.last, w.rows / kRows);
    float* y = p.y + portion.tile * w.rows;
    for (int64_t i = portion.first; i < whole; i += kPanels)
      multiply(w, p.expert, i, static_cast<int>(std::min<int64_t>(kPanels, whole - i)), p.in, portion.tile,
               portion.columns, {y + i * kRows, w.rows, p.add});
    if (whole == portion.last) return;
    // The last panel has fewer rows than lanes.
    alignas(64) float out[kTileRows * kRows];
    multiply(w, p.expert, whole, 1, p.in, portion.tile, portion.columns, {out, kRows, false});
    for (int c = 0; c < portion.columns; ++c)
      for (int64_t r = 0; r < w.rows % kRows; ++r) {
        float& to = y[c * w.rows + whole * kRows + r];
        to = p.add ? to + out[c * kRows + r] : out[c * kRows + r];
      }
  });
}

void Best::insert(int32_t id, float value) {
  if (heap_.size() == size_) {
    std::pop_heap(heap_.begin(), heap_.end(), before);
    heap_.back() = {id, value};
  } else {
    heap_.push_back({id, value});
  }
  std::push_heap(heap_.begin(), heap_.end(), before);
}

void Best::take(int32_t* ids, float* values) {
  std::sort_heap(heap_.begin(), heap_.end(), before);
  for (size_t i = 0; i < size_; ++i) {
    ids[i] = i < heap_.size() ? heap_[i].id : 0;
    values[i] = i < heap_.size() ? heap_[i].value : -INFINITY;
  }
  heap_.clear();
}

void Cpu::largest(const float* x, int64_t rows, const Weight& head, int64_t k, const int32_t* excluded,
                  int64_t num_excluded, int32_t* ids, float* values) {
  if (k <= 0) return;
  const Scratch<ActivationRun> runs(head.quantised() ? rows * head.inputs / kRun : 0);
  if (head.quantised()) quantise(x, rows, head.inputs, runs.data);
  const std::vector<Product> products = {{&head, 0, nullptr, false, 1}};
  const std::vector<Portion> work = portions(products);
  for (int64_t tile = 0; tile < rows; tile += kTileRows) {
    const int columns = static_cast<int>(std::min<int64_t>(kTileRows, rows - tile));
    std::vector<Best> best(static_cast<size_t>(threads() * columns), Best(k));
    pool_.run(static_cast<int64_t>(work.size()), [&](int64_t task, int thread) {
      alignas(64) float out[kTileRows * kRows];
      for (int64_t i = work[static_cast<size_t>(task)].first; i < work[static_cast<size_t>(task)].last; ++i) {
        multiply(head, 0, i, 1, {x, runs.data}, tile, columns, {out, kRows, false});
        const int width = static_cast<int>(std::min<int64_t>(kRows, head.rows - i * kRows));
        for (int c = 0; c < columns; ++c) {
          Best& mine = best[static_cast<size_t>(thread * columns + c)];
          for (int r = 0; r < width; ++r) {
            const auto id = static_cast<int32_t>(i * kRows + r);
            if (out[c * kRows + r] >= mine.bar() && !std::binary_search(excluded, excluded + num_excluded, id))
              mine.offer(id, out[c * kRows + r]);
          }
        }
      }
    });
    for (int c = 0; c < columns; ++c) {
      for (int t = 1; t < threads(); ++t)
        best[static_cast<size_t>(c)].merge(best[static_cast<size_t>(t * columns + c)]);
      best[static_cast<size_t>(c)].take(ids + (tile + c) * k, values + (tile + c) * k);
    }
  }
}

void Cpu::linear(const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products, const Norm& norm) {
  const bool quantised = std::any_of(products.begin(), products.end(), [](auto& p) { return p.weight->quantised(); });
  const Scratch<float> normed(norm.weight ? rows * inputs : 0);
  const Scratch<ActivationRun> runs(quantised ? rows * inputs / kRun : 0);
  const Inputs in = enter(x, rows, inputs, norm, normed.data, runs.data);
  if (!quantised && rows >= kTiledRows) return run_float_tiles(in.x, rows, inputs, products);
  std::vector<Product> shared = products;
  for (Product& p : shared) p.rows = rows, p.in = in;
  run_products(shared);
}

void Cpu::gated_delta(const DeltaArrays& d, const StepArrays& step) {
  const int64_t value_width = static_cast<int64_t>(d.value_heads) * 128;
  const int64_t key_width = static_cast<int64_t>(d.key_heads) * 128, channels = 2 * key_width + value_width;
  const int64_t state_floats = static_cast<int64_t>(d.value_heads) * 128 * 128;
  // Heads of one sequence lie one after the other: a thread takes several in a row and fetches the next meanwhile.
  const int64_t heads = step.sequences * d.key_heads;
  std::vector<int64_t> firsts;
  for (int64_t i = 0; i < heads; i += std::max<int64_t>(1, (heads - i) / (2 * threads()))) firsts.push_back(i);
  firsts.push_back(heads);
  const auto state_of = [&](int64_t i) { return d.states + step.slots[i / d.key_heads] * state_floats; };
  const auto run_head = [&](int64_t i, bool last) {
    const int64_t sequence = i / d.key_heads;
    const int head = static_cast<int>(i % d.key_heads);
    const int64_t end = step.starts[sequence + 1], slot = step.slots[sequence];
    DeltaTask task{};
    task.conv = d.conv;
    task.a = d.a;
    task.dt_bias = d.dt_bias;
    task.norm = d.norm;
    task.tail = d.tails + slot * 3 * channels;
    task.state = state_of(i);
    task.next_state = last ? nullptr : state_of(i + 1) + (i + 1) % d.key_heads * 128 * 128;
    task.key_head = head;
    task.key_heads = d.key_heads;
    task.value_heads = d.value_heads;
    task.eps = d.eps;
    const int32_t journal = step.journals ? step.journals[sequence] : -1;
    if (journal >= 0) {
      const JournalRow record{channels, key_width, value_width, d.value_heads};
      task.journal = d.journals + journal * kJournalRows * record.floats();
      task.pending = step.pending[sequence];
      task.defers = step.defers[sequence] != 0;
    }
    if (step.starts[sequence] == end && task.pending == 0) return;
    // A capture ends a stretch of tokens: the state in memory is then the state after that row.
    const int32_t* rows_end = step.capture_rows + step.captures;
    for (int64_t row = step.starts[sequence]; row < end || task.pending > 0;) {
      const int32_t* capture = std::lower_bound(step.capture_rows, rows_end, row);
      const bool captured = capture != rows_end && *capture < end;
      const int64_t stop = captured ? *capture + 1 : end;
      task.qkv = d.qkv + row * channels;
      task.z = d.z + row * value_width;
      task.beta = d.beta + row * d.value_heads;
      task.alpha = d.alpha + row * d.value_heads;
      task.out = d.out + row * value_width;
      task.num_tokens = stop - row;
      table_->delta(task);
      task.pending = 0;
      for (; captured && capture != rows_end && *capture == stop - 1; ++capture) {
        const int64_t target = step.capture_slots[capture - step.capture_rows];
        const auto copy_channels = [&](int64_t channel) {
          for (int tap = 0; tap < 3; ++tap)
            std::memcpy(d.tails + (target * 3 + tap) * channels + channel, task.tail + tap * channels + channel,
                        128 * sizeof(float));
        };
        copy_channels(head * 128);
        copy_channels(key_width + head * 128);
        for (int64_t v = head; v < d.value_heads; v += d.key_heads) {
          copy_channels(2 * key_width + v * 128);
          std::memcpy(d.states + target * state_floats + v * 128 * 128, task.state + v * 128 * 128,
                      128 * 128 * sizeof(float));
        }
      }
      row = stop;
    }
  };
  pool_.run(static_cast<int64_t>(firsts.size()) - 1, [&](int64_t piece, int) {
    const int64_t end = firsts[static_cast<size_t>(piece) + 1];
    for (int64_t i = firsts[static_cast<size_t>(piece)]; i < end; ++i) run_head(i, i + 1 == end);
  });
}

void Cpu::write_keys(const AttentionArrays& a, const StepArrays& step, const int64_t* sequence_of, float* queries) {
  const AttentionShape& s = a.shape;
  const int64_t half = s.rotary_dim / 2;
  for_rows(step.starts[step.sequences], (s.heads + 2 * s.kv_heads) * s.head_dim, [&](int64_t row) {
    const int64_t sequence = sequence_of[row], position = step.past_len[sequence] + row - step.starts[sequence];
    const int64_t page = step.page_table[sequence * step.pages_per_sequence + position / kPage];
    const float *cos = a.cos + row * half, *sin = a.sin + row * half;
    for (int h = 0; h < s.heads; ++h)
      table_->prepare_query(a.query_gate + (row * s.heads + h) * 2 * s.head_dim, a.query_norm, cos, sin,
                            queries + (row * s.heads + h) * s.head_dim, s);
    for (int h = 0; h < s.kv_heads; ++h)
      table_->store_key_value(a.key + (row * s.kv_heads + h) * s.head_dim, a.key_norm, cos, sin,
                              a.value + (row * s.kv_heads + h) * s.head_dim, a.kv, page,
                              static_cast<int>(position % kPage), h, s);
  });
}

void Cpu::attend(const AttentionArrays& a, const AttentionTask& task, int64_t row, float* scratch) {
  const int64_t spans = task.position / kSpan + 1;
  const int count = task.rows * task.group;
  std::vector<Partial> total(static_cast<size_t>(count)), partial(static_cast<size_t>(count));
  float *total_sums = scratch, *sums = scratch + static_cast<int64_t>(count) * task.head_dim;
  table_->attend_span(task, 0, total.data(), total_sums);
  for (int64_t span = 1; span < spans; ++span) {
    table_->attend_span(task, span, partial.data(), sums);
    for (int i = 0; i < count; ++i)
      table_->merge(total[static_cast<size_t>(i)], total_sums + i * task.head_dim, partial[static_cast<size_t>(i)],
                    sums + i * task.head_dim, task.head_dim);
  }
  for (int i = 0; i < count; ++i) {
    const int64_t head = (row + i / task.group) * a.shape.heads + task.kv_head * task.group + i % task.group;
    table_->finish(total[static_cast<size_t>(i)], total_sums + i * task.head_dim,
                   a.query_gate + head * 2 * task.head_dim + task.head_dim, a.out + head * task.head_dim,
                   task.head_dim);
  }
}

void Cpu::gated_attention(const AttentionArrays& a, const StepArrays& step) {
  const AttentionShape& s = a.shape;
  const int group = s.heads / s.kv_heads;
  const int64_t rows = step.starts[step.sequences], floats = static_cast<int64_t>(kQueryRows) * group * s.head_dim;
  const Scratch<float> queries(rows * s.heads * s.head_dim), sums(2 * floats * threads());
  std::vector<int64_t> sequence_of(static_cast<size_t>(rows));
  for (int64_t sequence = 0; sequence < step.sequences; ++sequence)
    std::fill(sequence_of.begin() + step.starts[sequence], sequence_of.begin() + step.starts[sequence + 1], sequence);
  write_keys(a, step, sequence_of.data(), queries.data);
  const auto position = [&](int64_t row) {
    const int64_t sequence = sequence_of[static_cast<size_t>(row)];
    return step.past_len[sequence] + row - step.starts[sequence];
  };
  // Rows that attend together: of one sequence, in one span.
  std::vector<int64_t> firsts;
  for (int64_t row = 0; row < rows;) {
    firsts.push_back(row);
    const int64_t last = row + kQueryRows - 1;
    const bool together = last < rows &&
                          sequence_of[static_cast<size_t>(last)] == sequence_of[static_cast<size_t>(row)] &&
                          position(last) / kSpan == position(row) / kSpan;
    row += together ? kQueryRows : 1;
  }
  firsts.push_back(rows);
  const auto blocks = static_cast<int64_t>(firsts.size()) - 1;
  pool_.run(blocks * s.kv_heads, [&](int64_t i, int thread) {
    // The last rows have the most keys: handed out first, they leave small tasks for the end.
    const auto block = static_cast<size_t>(blocks - 1 - i / s.kv_heads);
    const int64_t row = firsts[block], sequence = sequence_of[static_cast<size_t>(row)];
    const int kv_head = static_cast<int>(i % s.kv_heads);
    AttentionTask task;
    task.query = queries.data + (row * s.heads + kv_head * group) * s.head_dim;
    task.query_stride = static_cast<int64_t>(s.heads) * s.head_dim;
    task.rows = static_cast<int>(firsts[block + 1] - row);
    task.kv = a.kv;
    task.page_table = step.page_table + sequence * step.pages_per_sequence;
    task.position = position(row);
    task.group = group;
    task.kv_head = kv_head;
    task.kv_heads = s.kv_heads;
    task.head_dim = s.head_dim;
    attend(a, task, row, sums.data + 2 * floats * thread);
  });
}

namespace {
// The rows that a mixer reads, and what it makes of them.
struct MixerRows {
  MixerRows(const std::vector<const Weight*>& weights, int64_t rows, int64_t inner) : out(rows * inner) {
    for (const Weight* w : weights) products.push_back({w, 0, blocks.emplace_back(rows * w->rows).data, false});
  }
  Scratch<float> out;
  std::deque<Scratch<float>> blocks;
  std::vector<Product> products;
};
}  // namespace

void Cpu::delta_mixer(float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                      DeltaArrays d, const StepArrays& step) {
  const int64_t rows = step.starts[step.sequences];
  const MixerRows mixed(weights, rows, out.inputs);
  linear(h, rows, out.rows, mixed.products, norm);
  d.qkv = mixed.products[0].y, d.z = mixed.products[1].y, d.beta = mixed.products[2].y, d.alpha = mixed.products[3].y;
  d.out = mixed.out.data;
  gated_delta(d, step);
  linear(mixed.out.data, rows, out.inputs, {{&out, 0, h, true}});
}

void Cpu::attention_mixer(float* h, const Norm& norm, const std::vector<const Weight*>& weights, const Weight& out,
                          AttentionArrays a, const StepArrays& step) {
  const int64_t rows = step.starts[step.sequences];
  const MixerRows mixed(weights, rows, out.inputs);
  linear(h, rows, out.rows, mixed.products, norm);
  a.query_gate = mixed.products[0].y, a.key = mixed.products[1].y, a.value = mixed.products[2].y,
  a.out = mixed.out.data;
  gated_attention(a, step);
  linear(mixed.out.data, rows, out.inputs, {{&out, 0, h, true}});
}

namespace {

// Sine and cosine in double, the same on every machine: reduction by pi/2 in three parts (33 bits each, so products
// with the quadrant are exact up to 2^20) and the polynomials of fdlibm; error below one unit of the last place.
void sin_cos(double x, double& sine, double& cosine) {
  const double n = std::nearbyint(x * 6.36619772367581382433e-01);
  double r = x - n * 1.57079632673412561417e+00;
  r -= n * 6.07710050630396597660e-11;
  r -= n * 2.02226624879595063154e-21;
  const double z = r * r;
  const double s = r + r * z *
                           (-1.66666666666666324348e-01 +
                            z * (8.33333333332248946124e-03 +
                                 z * (-1.98412698298579493134e-04 +
                                      z * (2.75573137070700676789e-06 +
                                           z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const double c = 1.0 - z * 0.5 +
                   z * z *
                       (4.16666666666666019037e-02 +
                        z * (-1.38888888888741095749e-03 +
                             z * (2.48015872894767294178e-05 +
                                  z * (-2.75573143513906633035e-07 +
                                       z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  switch (static_cast<int64_t>(n) & 3) {
    case 0: sine = s, cosine = c; break;
    case 1: sine = c, cosine = -s; break;
    case 2: sine = -s, cosine = -c; break;
    default: sine = -c, cosine = s; break;
  }
}

}  // namespace

void Cpu::rotary(const int32_t* positions, int64_t tokens, const double* frequencies, const int32_t* axes,
                 int64_t pairs, double magnitude, float* cos, float* sin) {
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < pairs; ++i) {
      double s, c;
      sin_cos(static_cast<double>(positions[3 * t + axes[i]]) * frequencies[i], s, c);
      cos[t * pairs + i] = static_cast<float>(c * magnitude);
      sin[t * pairs + i] = static_cast<float>(s * magnitude);
    }
}

}  // namespace loqal
