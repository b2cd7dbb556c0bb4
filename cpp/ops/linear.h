// Products of rows with weights, and what rows go through before them.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/cpu.h"
#include "ops/weight.h"

namespace loqal {

// Activation rows [T K] as they are and quantized [T K/kRun]; what no weight reads may be missing.
struct Inputs {
  const float* x;
  const ActivationRun* xq;
};

// One product of a call: y [T rows of the weight] (+)= x W^T. Callers of linear, whose products share rows and inputs,
// leave both out.
struct Product {
  const Weight* weight;
  int64_t expert;
  float* y;
  bool add;
  int64_t rows = 0;
  Inputs in{};
};

// An RMS norm that rows go through before anything else; without a weight [D] they do not.
struct Norm {
  const float* weight = nullptr;
  float eps = 0.0f;
};

// Some panels of one product for the rows from `tile` on, small enough that handing them out evens the threads' speeds.
struct PanelRange {
  const Product* product;
  int64_t first, last, tile;
  int columns;
};

// Rows of a packed table: out [tokens inputs] from ids [tokens].
void embed(Cpu& cpu, const Weight& table, const int32_t* ids, int64_t tokens, float* out);

// y = x / rms(x) * weight by row: x and y [rows width], weight [width].
void rms_norm(Cpu& cpu, const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps);

// Every product of x [rows inputs], behind a norm [inputs] where there is one: y [rows O] = or += x W^T.
void linear(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products,
            const Norm& norm = {});

// Parts that operations with products of their own share ----------------------------------------------------------

// x [rows inputs] as products take it: normed into `normed` [rows inputs] when there is a norm, quantized into `runs`
// [rows inputs/kRun] where that is given.
Inputs prepare_inputs(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, const Norm& norm, float* normed,
                      ActivationRun* runs);

// `count` panels of a weight from `panel` on times `columns` rows of its inputs from `row` on, for the kernel table's
// multiply_panels of the weight's layout.
PanelTask panel_task(const Cpu& cpu, const Weight& w, int64_t expert, int64_t panel, int count, const Inputs& in,
                     int64_t row, int columns, const Target& target);

// The panels and rows of all products, cut into tasks.
std::vector<PanelRange> panel_ranges(const Cpu& cpu, const std::vector<Product>& products);

// Products, each with rows and inputs of its own, as tasks of the pool.
class ProductTasks {
 public:
  ProductTasks(const Cpu& cpu, const std::vector<Product>& products)
      : cpu_(cpu), ranges_(panel_ranges(cpu, products)) {}
  int64_t count() const { return static_cast<int64_t>(ranges_.size()); }
  void operator()(int64_t task, int thread) const;

 private:
  const Cpu& cpu_;
  std::vector<PanelRange> ranges_;
};

}  // namespace loqal
