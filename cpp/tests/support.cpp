#include "support.h"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <utility>

#include "layouts/pack.h"

namespace loqal::tests {
namespace {

std::mutex report;
int failed = 0;

uint16_t random_half(Random& random) {
  const int sign = random.below(2), exponent = random.below(15), mantissa = random.below(1024);
  return static_cast<uint16_t>(sign << 15 | exponent << 10 | mantissa);
}
uint16_t random_bfloat(Random& random) {
  const int sign = random.below(2), mantissa = random.below(128);
  const int exponent = random.below(8) == 0 ? 0 : 110 + random.below(20);
  return static_cast<uint16_t>(sign << 15 | exponent << 7 | mantissa);
}

// Where a block keeps its float16 scales.
std::vector<int> half_offsets(Layout layout) {
  switch (layout) {
    case Layout::Q8_0:
    case Layout::Q4_0:
    case Layout::Q5_0:
    case Layout::IQ4_NL:
    case Layout::IQ4_XS: return {0};
    case Layout::Q4_1:
    case Layout::Q5_1:
    case Layout::Q4_K:
    case Layout::Q5_K: return {0, 2};
    case Layout::Q2_K: return {80, 82};
    case Layout::Q3_K: return {108};
    case Layout::Q6_K: return {208};
    default: return {};
  }
}

}  // namespace

void Record::add(const void* data, size_t bytes) {
  const auto* p = static_cast<const uint8_t*>(data);
  bytes_.insert(bytes_.end(), p, p + bytes);
}

uint64_t Record::digest() const {
  uint64_t hash = 0xcbf29ce484222325;
  for (uint8_t byte : bytes_) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

void expect(bool ok, const std::string& what, const Place& place) {
  if (ok) return;
  const std::lock_guard lock(report);
  std::printf("%s:%u: FAILED %s\n", place.file_name(), static_cast<unsigned>(place.line()), what.c_str());
  ++failed;
}

int failures() {
  const std::lock_guard lock(report);
  return failed;
}

bool denormals_count() {
  const volatile float tiny = 1e-40f;
  const volatile float twice = tiny + tiny;
  return twice > 0.0f;
}

uint64_t Random::next() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

float Random::unit() { return static_cast<float>(static_cast<int64_t>(next() >> 40) - (1 << 23)) * 0x1p-23f; }

float Random::normal() {
  float total = 0;
  for (int i = 0; i < 3; ++i) total += unit();  // of variance 1/3 each
  return total;
}

std::vector<float> Random::normals(int64_t count, float scale) {
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = normal() * scale;
  return out;
}

std::vector<uint8_t> Random::bytes(int64_t count) {
  std::vector<uint8_t> out(static_cast<size_t>(count));
  for (uint8_t& b : out) b = static_cast<uint8_t>(next() >> 56);
  return out;
}

std::vector<int32_t> Random::permutation(int n) {
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) out[static_cast<size_t>(i)] = i;
  for (int i = n - 1; i > 0; --i) std::swap(out[static_cast<size_t>(i)], out[static_cast<size_t>(below(i + 1))]);
  return out;
}

std::vector<uint8_t> random_file(Layout layout, int64_t rows, int64_t inputs, Random& random) {
  if (layout == Layout::F32) {
    std::vector<float> values = random.normals(rows * inputs);
    for (size_t i = 0; i < values.size(); i += 37) values[i] *= 0x1p-130f;  // subnormal
    std::vector<uint8_t> out(values.size() * sizeof(float));
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }
  std::vector<uint8_t> out = random.bytes(rows * file_row_bytes(layout, inputs));
  const auto block = static_cast<size_t>(file_row_bytes(layout, layout_info(layout).inputs));
  const std::vector<int> offsets = half_offsets(layout);
  for (size_t at = 0; at < out.size(); at += block) {
    uint8_t* p = out.data() + at;
    for (const int offset : offsets) {
      const uint16_t half = random_half(random);
      std::memcpy(p + offset, &half, sizeof half);
    }
    if (layout == Layout::F16 || layout == Layout::BF16) {
      const uint16_t value = layout == Layout::F16 ? random_half(random) : random_bfloat(random);
      std::memcpy(p, &value, sizeof value);
    }
    // The exponent of MXFP4, now and then one of the two whose scale is subnormal.
    if (layout == Layout::MXFP4)
      p[0] = static_cast<uint8_t>(random.below(16) ? 115 + random.below(12) : random.below(3));
  }
  return out;
}

void pack_panel_i8(const int8_t* codes, const float* scales, int rows, int64_t inputs, uint8_t* panel) {
  for (int64_t run = 0; run < inputs / kRun; ++run) {
    float s[2][kRows] = {};
    uint8_t lanes[kRun / 4][kRows][4];
    std::memset(lanes, 0x80, sizeof lanes);
    for (int r = 0; r < rows; ++r) {
      for (int h = 0; h < 2; ++h) s[h][r] = scales[r * (inputs / 16) + 2 * run + h];
      for (int k = 0; k < kRun; ++k)
        lanes[k / 4][r][k % 4] = static_cast<uint8_t>(codes[r * inputs + kRun * run + k] ^ 0x80);
    }
    std::memcpy(panel, s, sizeof s);
    std::memcpy(panel + sizeof s, lanes, sizeof lanes);
    panel += sizeof s + sizeof lanes;
  }
}

std::unique_ptr<Weight> random_weight(Cpu& cpu, Layout layout, int64_t experts, int64_t rows, int64_t inputs,
                                      uint64_t seed) {
  Random random(seed);
  auto weight = std::make_unique<Weight>(allocate(cpu, layout, experts, rows, inputs));
  if (layout == Layout::I8) {
    const std::vector<uint8_t> codes = random.bytes(experts * rows * inputs);
    const std::vector<float> scales = random.normals(experts * rows * inputs / 16);
    for (int64_t e = 0; e < experts; ++e)
      for (int64_t first = 0; first < rows; first += kRows)
        pack_panel_i8(reinterpret_cast<const int8_t*>(codes.data()) + (e * rows + first) * inputs,
                      scales.data() + (e * rows + first) * inputs / 16,
                      static_cast<int>(std::min<int64_t>(kRows, rows - first)), inputs,
                      const_cast<uint8_t*>(weight->panel(e, first / kRows)));
  } else {
    pack_weight(cpu, *weight, random_file(layout, experts * rows, inputs, random).data());
  }
  return weight;
}

}  // namespace loqal::tests
