// The kernels that work on one row of numbers.
#include <cmath>
#include <cstddef>

#include "support.h"

namespace loqal::tests {
namespace {

constexpr int kWidths[] = {1, 2, 5, 15, 16, 17, 31, 32, 33, 64, 100, 257, 1024};

// Both signs, from too small to count to where exponentials leave their range.
std::vector<float> wide_range(int count, Random& random) {
  std::vector<float> out = random.normals(count, 4.0f);
  const float special[] = {0.0f,   -0.0f,  86.9f,   87.0f, 88.0f,  88.5f, -86.9f,
                           -87.0f, -87.5f, -100.0f, 1e30f, -1e30f, 1e-40f};
  for (int i = 0; i < count; ++i) {
    float& x = out[static_cast<size_t>(i)];
    if (i % 7 == 3) x = special[static_cast<size_t>(random.below(13))];
    if (i % 5 == 1) x *= 8.0f;
  }
  return out;
}

void quantize_program(const KernelTable& table, int, Record& record) {
  Random random(300);
  std::vector<float> x = random.normals(64 * kRun);
  for (int run = 0; run < 64; ++run) {
    float* p = x.data() + run * kRun;
    const float scale = std::ldexp(1.0f, 4 * run - 128);  // from subnormal to huge
    for (int i = 0; i < kRun; ++i) p[i] *= scale;
    if (run % 8 == 5) {  // halves to be rounded to even: the largest magnitude is 127
      for (int i = 0; i < kRun; ++i) p[i] = static_cast<float>(i - 16) + 0.5f;
      p[run % kRun] = run % 16 == 5 ? 127.0f : -127.0f;
    }
    if (run % 16 == 7)
      for (int i = 0; i < kRun; ++i) p[i] = i % 2 ? 0.0f : -0.0f;
  }
  std::vector<ActivationRun> out(64);
  table.quantize(x.data(), 64 * kRun, out.data());
  for (const ActivationRun& run : out) record.add(&run, sizeof run);
}

void rms_norm_program(const KernelTable& table, int, Record& record) {
  Random random(301);
  for (const int width : kWidths)
    for (const float scale : {1.0f, 0x1p-70f, 0x1p30f}) {
      const std::vector<float> x = random.normals(width, scale), weight = random.normals(width);
      std::vector<float> y(x.size());
      table.rms_norm(x.data(), weight.data(), y.data(), width, 1e-6f);
      record.add(y);
    }
}

void gate_program(const KernelTable& table, int, Record& record) {
  Random random(302);
  const std::vector<float> gate = wide_range(1024, random), up = random.normals(1024);
  std::vector<float> whole(1024), gated = up;
  table.silu_mul(gate.data(), up.data(), whole.data(), 1024);
  table.sigmoid_mul(gate.data(), gated.data(), 1024);
  for (int n = 1; n <= 50; ++n) {
    std::vector<float> part(static_cast<size_t>(n)), same(up.begin(), up.begin() + n);
    table.silu_mul(gate.data(), up.data(), part.data(), n);
    table.sigmoid_mul(gate.data(), same.data(), n);
    const std::string what = std::string(table.name) + " of " + std::to_string(n);
    expect_same(part.data(), whole.data(), part.size(), "silu_mul " + what);
    expect_same(same.data(), gated.data(), same.size(), "sigmoid_mul " + what);
  }
  record.add(whole);
  record.add(gated);
}

void softmax_program(const KernelTable& table, int, Record& record) {
  Random random(303);
  for (const int width : kWidths) {
    std::vector<float> x = random.normals(width, 20.0f);
    for (int i = 3; i < width; i += 11) x[static_cast<size_t>(i)] = -INFINITY;
    table.softmax(x.data(), width);
    record.add(x);
  }
}

void log_sum_exp_program(const KernelTable& table, int, Record& record) {
  Random random(304);
  for (const int width : {1, 7, 16, 100, 1023, 1024, 1025, 5000, 20000})
    for (const float scale : {0.01f, 1.0f, 30.0f}) {
      const std::vector<float> x = random.normals(width, scale);
      const float value = table.log_sum_exp(x.data(), width);
      double exact = 0;
      for (const float v : x) exact += std::exp(static_cast<double>(v));
      expect(std::fabs(static_cast<double>(value) - std::log(exact)) < 2e-6 * (1 + std::fabs(std::log(exact))),
             std::string(table.name) + " log_sum_exp is far from the library's");
      record.add(&value, sizeof value);
    }
}

}  // namespace

std::vector<Program> row_programs() {
  return {{"quantise", quantize_program},
          {"rms_norm", rms_norm_program},
          {"gates", gate_program},
          {"softmax", softmax_program},
          {"log_sum_exp", log_sum_exp_program}};
}

}  // namespace loqal::tests
