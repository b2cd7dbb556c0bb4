// What the native tests share: programs, expectations, and inputs that are the same on every machine.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "ops/weight.h"

namespace loqal::tests {

// The results of one program, byte by byte.
class Record {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    add(values.data(), values.size() * sizeof(T));
  }
  void add(const void* data, size_t bytes);
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  uint64_t digest() const;  // FNV-1a, 64 bits

 private:
  std::vector<uint8_t> bytes_;
};

// Runs kernels of one table on seeded inputs and records what they compute. Every table, and every machine, must
// record the same bytes.
struct Program {
  std::string name;
  void (*run)(const KernelTable& table, int argument, Record& record);
  int argument = 0;
};

std::vector<Program> panel_programs();
std::vector<Program> row_programs();
std::vector<Program> mixer_programs();
std::vector<Program> cpu_programs();
std::vector<Program> decoder_programs();
std::vector<Program> pool_programs();
std::vector<Program> memory_programs();
std::vector<Program> encode_programs();
std::vector<Program> vision_programs();

// Reports `what` with the place of the call, and counts a failure, unless `ok`.
using Place = std::source_location;
void expect(bool ok, const std::string& what, const Place& place = Place::current());
int failures();

template <class T>
void expect_same(const T* actual, const T* expected, size_t count, const std::string& what,
                 const Place& place = Place::current()) {
  expect(std::memcmp(actual, expected, count * sizeof(T)) == 0, what, place);
}
template <class T>
void expect_same(const std::vector<T>& actual, const std::vector<T>& expected, const std::string& what,
                 const Place& place = Place::current()) {
  expect(actual.size() == expected.size(), what + ": sizes differ", place);
  if (actual.size() == expected.size()) expect_same(actual.data(), expected.data(), actual.size(), what, place);
}

// Whether this thread computes with denormals now.
bool denormals_count();

// SplitMix64. Floats come from integers by exact steps only.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  int below(int n) { return static_cast<int>(next() >> 33) % n; }
  float unit();    // uniform in [-1, 1)
  float normal();  // about normal, variance 1
  std::vector<float> normals(int64_t count, float scale = 1.0f);
  std::vector<uint8_t> bytes(int64_t count);
  std::vector<int32_t> permutation(int n);

 private:
  uint64_t state_;
};

// Rows of a weight as a file holds them: random codes, scales of both signs, some subnormal. Not for Layout::I8.
std::vector<uint8_t> random_file(Layout layout, int64_t rows, int64_t inputs, Random& random);

// A panel of Layout::I8 from int8 codes [rows inputs] with a float scale per 16 inputs.
void pack_panel_i8(const int8_t* codes, const float* scales, int rows, int64_t inputs, uint8_t* panel);

// A packed weight of random values.
std::unique_ptr<Weight> random_weight(Cpu& cpu, Layout layout, int64_t experts, int64_t rows, int64_t inputs,
                                      uint64_t seed);

}  // namespace loqal::tests
