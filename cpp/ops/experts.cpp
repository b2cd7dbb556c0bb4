#include "ops/experts.h"

#include <cstring>
#include <vector>

#include "ops/mlp.h"
#include "ops/top_k.h"

namespace loqal {
namespace {

int64_t bytes_read(const FeedForward& n) {
  return n.gate->expert_bytes() + n.up->expert_bytes() + n.down->expert_bytes();
}

// The experts of one row, best first, equal ones by index, and their shares of the sum of their weights.
void choose(const float* weights, int64_t experts, int64_t count, int32_t* chosen, float* shares) {
  TopK best(count);
  for (int32_t i = 0; i < experts; ++i)
    if (weights[i] >= best.threshold()) best.offer(i, weights[i]);
  best.take(chosen, shares);
  float total = shares[0];
  for (int64_t rank = 1; rank < count; ++rank) total += shares[rank];
  for (int64_t rank = 0; rank < count; ++rank) shares[rank] /= total;
}

// Who goes where. A pair is a row and one of its experts; pairs of one expert lie together, rows ascending.
struct Routing {
  std::vector<int64_t> first;       // pair by expert, and the end
  std::vector<int64_t> row;         // by pair
  std::vector<int64_t> pair;        // [rows num_active]
  std::vector<float> share;         // [rows num_active]
  std::vector<float> shared_share;  // by row, of the expert that all rows share
};

Routing route(Cpu& cpu, const float* x, int64_t rows, const Experts& e) {
  const int64_t experts = e.router->rows, count = e.num_active;
  const auto pairs = static_cast<size_t>(rows * count);
  const Scratch<float> weights(rows * experts), shared(rows);
  linear(cpu, x, rows, e.router->inputs,
         {{e.router, 0, weights.data, false}, {e.shared_router, 0, shared.data, false}});
  Routing r{std::vector<int64_t>(static_cast<size_t>(experts + 1)), std::vector<int64_t>(pairs),
            std::vector<int64_t>(pairs), std::vector<float>(pairs), std::vector<float>(static_cast<size_t>(rows))};
  std::vector<int32_t> chosen(pairs);
  for_rows(cpu, rows, experts, [&](int64_t row) {
    cpu.table().softmax(weights.data + row * experts, experts);
    choose(weights.data + row * experts, experts, count, chosen.data() + row * count, r.share.data() + row * count);
    // A softmax over (x, 0) is the sigmoid of x.
    float pair[2] = {shared.data[row], 0.0f};
    cpu.table().softmax(pair, 2);
    r.shared_share[static_cast<size_t>(row)] = pair[0];
  });
  for (const int32_t expert : chosen) ++r.first[static_cast<size_t>(expert) + 1];
  for (size_t i = 1; i < r.first.size(); ++i) r.first[i] += r.first[i - 1];
  std::vector<int64_t> next(r.first.begin(), r.first.end() - 1);
  for (size_t i = 0; i < pairs; ++i) {
    r.pair[i] = next[static_cast<size_t>(chosen[i])]++;
    r.row[static_cast<size_t>(r.pair[i])] = static_cast<int64_t>(i) / count;
  }
  return r;
}

}  // namespace

void routed_experts(Cpu& cpu, float* h, const float* input, int64_t rows, const Experts& e, const Norm& norm) {
  const int64_t inputs = e.gate->inputs, outputs = e.down->rows, count = e.num_active, pairs = rows * count;
  const bool any = any_quantized({e.gate, e.up, e.shared_gate, e.shared_up}),
             gathers_x = !(e.gate->quantized() && e.up->quantized());
  const int64_t runs = any ? inputs / kRun : 0;
  const Scratch<float> normed(norm.weight ? rows * inputs : 0), pair_x(gathers_x ? pairs * inputs : 0);
  const Scratch<ActivationRun> xq(rows * runs), pair_xq(pairs * runs);
  const float* x = prepare_inputs(cpu, input, rows, inputs, norm, normed.data, xq.data).x;
  const Routing routing = route(cpu, x, rows, e);
  for_rows(cpu, pairs, inputs, [&](int64_t pair) {
    const int64_t row = routing.row[static_cast<size_t>(pair)];
    if (any) std::memcpy(pair_xq.data + pair * runs, xq.data + row * runs, static_cast<size_t>(runs) * sizeof *xq.data);
    if (gathers_x) std::memcpy(pair_x.data + pair * inputs, x + row * inputs, static_cast<size_t>(inputs) * sizeof *x);
  });
  const Middle middle(*e.down, pairs), shared_middle(*e.shared_down, rows);
  const Scratch<float> parts(pairs * outputs), shared(rows * outputs);
  std::vector<FeedForward> networks{
      {e.shared_gate, e.shared_up, e.shared_down, 0, rows, {x, xq.data}, shared_middle.a(0), shared_middle.aq(0)}};
  std::vector<Product> products{down_product(networks[0], shared.data, false)};
  for (int64_t expert = 0; expert < e.router->rows; ++expert) {
    const int64_t first = routing.first[static_cast<size_t>(expert)];
    const int64_t here = routing.first[static_cast<size_t>(expert) + 1] - first;
    if (here == 0) continue;
    const Inputs in{gathers_x ? pair_x.data + first * inputs : nullptr, any ? pair_xq.data + first * runs : nullptr};
    networks.push_back({e.gate, e.up, e.down, expert, here, in, middle.a(first), middle.aq(first)});
    products.push_back(down_product(networks.back(), parts.data + first * outputs, false));
  }
  for (const FeedForward& n : networks) cpu.meter().weight_bytes += bytes_read(n);
  gate_feed_forwards(cpu, networks);
  const ProductTasks tasks(cpu, products);
  cpu.pool().run(tasks.count(), tasks);
  for_rows(cpu, rows, (count + 1) * outputs, [&](int64_t row) {
    const auto add = [&](float share, const float* part) {
      for (int64_t i = 0; i < outputs; ++i) h[row * outputs + i] += share * part[i];
    };
    for (auto i = static_cast<size_t>(row * count); i < static_cast<size_t>((row + 1) * count); ++i)
      add(routing.share[i], parts.data + routing.pair[i] * outputs);
    add(routing.shared_share[static_cast<size_t>(row)], shared.data + row * outputs);
  });
}

}  // namespace loqal
