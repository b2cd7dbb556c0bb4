// What the parts of the door from Python share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <optional>
#include <sstream>

#include "ops/linear.h"

namespace loqal::python {

namespace nb = nanobind;
using namespace nb::literals;

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using InOut = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<nb::numpy, T>;

struct Dim {
  const char* name;
  int64_t size;
};

template <class Array>
void check(const char* op, const char* argument, const Array& array, std::initializer_list<Dim> expected) {
  bool fits = array.ndim() == expected.size();
  size_t axis = 0;
  for (const Dim& d : expected) {
    fits = fits && static_cast<int64_t>(array.shape(axis)) == d.size;
    ++axis;
  }
  if (fits) return;
  std::ostringstream text;
  text << op << ": " << argument << " should be [";
  for (const Dim& d : expected) text << ' ' << d.name << '=' << d.size;
  text << " ] but is [";
  for (size_t i = 0; i < array.ndim(); ++i) text << ' ' << array.shape(i);
  text << " ]";
  throw nb::value_error(text.str().c_str());
}
inline void require(bool condition, const std::string& text) {
  if (!condition) throw nb::value_error(text.c_str());
}

template <class T>
Out<T> make(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (size_t n : shape) count *= n;
  void* data = BlockPool::instance().take(count * sizeof(T));
  nb::capsule owner(data, [](void* p) noexcept { BlockPool::give(p); });
  return Out<T>(static_cast<T*>(data), shape, owner);
}

// Counts the time of an operation in the meter while it lives.
class OperationTimer {
 public:
  explicit OperationTimer(Cpu& cpu) : total_(cpu.meter().busy_ns) {}
  ~OperationTimer() { total_ += (std::chrono::steady_clock::now() - start_) / std::chrono::nanoseconds(1); }

 private:
  std::atomic<int64_t>& total_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// An operation that counts its time in the meter.
template <auto kOperation>
struct Timed;
template <class Result, class... Args, Result (*kOperation)(Cpu&, Args...)>
struct Timed<kOperation> {
  static Result call(Cpu& cpu, Args... args) {
    const OperationTimer timer(cpu);
    return kOperation(cpu, std::forward<Args>(args)...);
  }
};

using NormWeight = std::optional<In<float, 1>>;

inline Norm norm_of(const char* op, const NormWeight& weight, float eps, int64_t width) {
  if (!weight) return {};
  check(op, "norm", *weight, {{"D", width}});
  return {weight->data(), eps};
}

void bind_encode(nb::module_& m);
void bind_decoder_types(nb::module_& m);
void bind_decoder(nb::class_<Cpu>& cpu);

}  // namespace loqal::python
