#include "ops/float_gemm.h"

namespace loqal {

void run_float_products(Cpu& cpu, const float* x, int64_t rows, int64_t inputs, const std::vector<Product>& products) {
  const FloatTiles tiles(cpu, x, rows, inputs);
  for (const Product& p : products)
    float_blocks(cpu, tiles, {p}, [&](int64_t row, int64_t first, int64_t width, const float* out, const float*) {
      float* y = p.y + row * p.weight->rows + first;
      for (int64_t i = 0; i < width; ++i) y[i] = p.add ? y[i] + out[i] : out[i];
    });
}

}  // namespace loqal
