// Feed-forward networks over plain pointers: one for all rows, or those that a router picks for each row.
#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/ops.h"

namespace loqal {
namespace {

// Rows from which a network of float weights is worth tiling.
constexpr int64_t kTiledRows = 96;

bool quantised(std::initializer_list<const Weight*> weights) {
  return std::any_of(weights.begin(), weights.end(), [](const Weight* w) { return w->quantised(); });
}
bool all_quantised(std::initializer_list<const Weight*> weights) {
  return std::all_of(weights.begin(), weights.end(), [](const Weight* w) { return w->quantised(); });
}
int64_t bytes_read(const Network& n) {
  int64_t bytes = 0;
  for (const Weight* w : {n.gate, n.up, n.down}) bytes += w->panels * w->panel_bytes;
  return bytes;
}

// What a network passes from its first products to the last, in the form that one reads.
struct Middle {
  Middle(const Weight& down, int64_t rows)
      : width(down.inputs),
        values(down.quantised() ? 0 : rows * width),
        runs(down.quantised() ? rows * width / kRun : 0) {}
  float* a(int64_t row) const { return values.data ? values.data + row * width : nullptr; }
  ActivationRun* aq(int64_t row) const { return runs.data ? runs.data + row * width / kRun : nullptr; }
  int64_t width;
  Scratch<float> values;
  Scratch<ActivationRun> runs;
};

Product last_product(const Network& n, float* y, bool add) { return {n.down, n.expert, y, add, n.rows, {n.a, n.aq}}; }

// The experts of one row, best first, equal ones by index, and their shares of the sum of their weights.
void choose(const float* weights, int64_t experts, int64_t count, int32_t* chosen, float* shares) {
  Best best(count);
  for (int32_t i = 0; i < experts; ++i)
    if (weights[i] >= best.bar()) best.offer(i, weights[i]);
  best.take(chosen, shares);
  float total = shares[0];
  for (int64_t rank = 1; rank < count; ++rank) total += shares[rank];
  for (int64_t rank = 0; rank < count; ++rank) shares[rank] /= total;
}

}  // namespace

void Cpu::gate_networks(const std::vector<Network>& networks) {
  std::vector<Product> products;
  for (const Network& n : networks) products.push_back({n.gate, n.expert, nullptr, false, n.rows, n.in});
  const std::vector<Portion> work = portions(products);
  pool_.run(static_cast<int64_t>(work.size()), [&](int64_t task, int) {
    // Few rows take many panels of one matrix before those of the other: memory is read best in long stretches.
    constexpr int64_t kRoom = kTileRows * kPanels * kRows;
    static_assert(kPanels * kRows == kRun);  // so each step of the loop fills whole runs of activations
    alignas(64) float g[kRoom], u[kRoom];
    const Portion& portion = work[static_cast<size_t>(task)];
    const Network& n = networks[static_cast<size_t>(portion.product - products.data())];
    const int64_t width = n.gate->rows, step = kTileRows / portion.columns * kPanels, stride = step * kRows;
    for (int64_t i = portion.first; i < portion.last; i += step) {
      const int64_t end = std::min(i + step, portion.last), count = std::min((end - i) * kRows, width - i * kRows);
      for (const auto& [weight, out] : {std::pair{n.gate, g}, std::pair{n.up, u}})
        for (int64_t panel = i; panel < end; panel += kPanels)
          multiply(*weight, n.expert, panel, static_cast<int>(std::min<int64_t>(kPanels, end - panel)), n.in,
                   portion.tile, portion.columns, {out + (panel - i) * kRows, stride, false});
      for (int64_t c = 0; c < portion.columns; ++c) {
        const int64_t at = (portion.tile + c) * width + i * kRows;
        float* a = n.aq ? g + c * stride : n.a + at;
        table_->silu_mul(g + c * stride, u + c * stride, a, count);
        if (n.aq) table_->quantise(a, count, n.aq + at / kRun);
      }
    }
  });
}

void Cpu::run_network(const Network& n, float* y, bool add) {
  if (n.rows >= kTiledRows && !quantised({n.gate, n.up, n.down})) {
    gate_float_tiles(n);
    return run_float_tiles(n.a, n.rows, n.down->inputs, {last_product(n, y, add)});
  }
  gate_networks({n});
  run_products({last_product(n, y, add)});
}

void Cpu::gated_mlp(float* h, const float* x, int64_t rows, const Weight& gate, const Weight& up, const Weight& down,
                    const Norm& norm) {
  const Scratch<float> normed(norm.weight ? rows * gate.inputs : 0);
  const Scratch<ActivationRun> runs(quantised({&gate, &up}) ? rows * gate.inputs / kRun : 0);
  const Inputs in = enter(x, rows, gate.inputs, norm, normed.data, runs.data);
  const Middle middle(down, rows);
  run_network({&gate, &up, &down, 0, rows, in, middle.a(0), middle.aq(0)}, h, true);
}

// Who goes where. A pair is a row and one of its experts; pairs of one expert lie together, rows ascending.
struct Cpu::Routing {
  std::vector<int64_t> first;       // pair by expert, and the end
  std::vector<int64_t> row;         // by pair
  std::vector<int64_t> pair;        // [rows num_active]
  std::vector<float> share;         // [rows num_active]
  std::vector<float> shared_share;  // by row, of the expert that all rows share
};

Cpu::Routing Cpu::route(const float* x, int64_t rows, const Experts& e) {
  const int64_t experts = e.router->rows, count = e.num_active;
  const auto pairs = static_cast<size_t>(rows * count);
  const Scratch<float> weights(rows * experts), shared(rows);
  linear(x, rows, e.router->inputs, {{e.router, 0, weights.data, false}, {e.shared_router, 0, shared.data, false}});
  Routing r{std::vector<int64_t>(static_cast<size_t>(experts + 1)), std::vector<int64_t>(pairs),
            std::vector<int64_t>(pairs), std::vector<float>(pairs), std::vector<float>(static_cast<size_t>(rows))};
  std::vector<int32_t> chosen(pairs);
  for_rows(rows, experts, [&](int64_t row) {
    table_->softmax(weights.data + row * experts, experts);
    choose(weights.data + row * experts, experts, count, chosen.data() + row * count, r.share.data() + row * count);
    // A softmax over (x, 0) is the sigmoid of x.
    float pair[2] = {shared.data[row], 0.0f};
    table_->softmax(pair, 2);
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

void Cpu::routed_experts(float* h, const float* input, int64_t rows, const Experts& e, const Norm& norm) {
  const int64_t inputs = e.gate->inputs, outputs = e.down->rows, count = e.num_active, pairs = rows * count;
  const bool any = quantised({e.gate, e.up, e.shared_gate, e.shared_up}), gathers_x = !all_quantised({e.gate, e.up});
  const int64_t runs = any ? inputs / kRun : 0;
  const Scratch<float> normed(norm.weight ? rows * inputs : 0), pair_x(gathers_x ? pairs * inputs : 0);
  const Scratch<ActivationRun> xq(rows * runs), pair_xq(pairs * runs);
  const float* x = enter(input, rows, inputs, norm, normed.data, xq.data).x;
  const Routing routing = route(x, rows, e);
  for_rows(pairs, inputs, [&](int64_t pair) {
    const int64_t row = routing.row[static_cast<size_t>(pair)];
    if (any) std::memcpy(pair_xq.data + pair * runs, xq.data + row * runs, static_cast<size_t>(runs) * sizeof *xq.data);
    if (gathers_x) std::memcpy(pair_x.data + pair * inputs, x + row * inputs, static_cast<size_t>(inputs) * sizeof *x);
  });
  const Middle middle(*e.down, pairs), shared_middle(*e.shared_down, rows);
  const Scratch<float> parts(pairs * outputs), shared(rows * outputs);
  std::vector<Network> networks{
      {e.shared_gate, e.shared_up, e.shared_down, 0, rows, {x, xq.data}, shared_middle.a(0), shared_middle.aq(0)}};
  std::vector<Product> products{last_product(networks[0], shared.data, false)};
  for (int64_t expert = 0; expert < e.router->rows; ++expert) {
    const int64_t first = routing.first[static_cast<size_t>(expert)];
    const int64_t here = routing.first[static_cast<size_t>(expert) + 1] - first;
    if (here == 0) continue;
    const Inputs in{gathers_x ? pair_x.data + first * inputs : nullptr, any ? pair_xq.data + first * runs : nullptr};
    networks.push_back({e.gate, e.up, e.down, expert, here, in, middle.a(first), middle.aq(first)});
    products.push_back(last_product(networks.back(), parts.data + first * outputs, false));
  }
  for (const Network& n : networks) meter_.weight_bytes += bytes_read(n);
  gate_networks(networks);
  run_products(products);
  for_rows(rows, (count + 1) * outputs, [&](int64_t row) {
    const auto add = [&](float share, const float* part) {
      for (int64_t i = 0; i < outputs; ++i) h[row * outputs + i] += share * part[i];
    };
    for (auto i = static_cast<size_t>(row * count); i < static_cast<size_t>((row + 1) * count); ++i)
      add(routing.share[i], parts.data + routing.pair[i] * outputs);
    add(routing.shared_share[static_cast<size_t>(row)], shared.data + row * outputs);
  });
}

}  // namespace loqal
