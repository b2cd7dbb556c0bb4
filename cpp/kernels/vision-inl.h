// The vision tower: norms, activations, products of many rows with float weights, and attention over a whole picture.
//
// All products are one register tile: some panels of 16 outputs in vector lanes times some columns, one chain of fused
// multiply-adds per output in ascending input order. How large the tile is, how inputs are cut into blocks and which
// columns stand side by side changes no bit, since a chain goes on from where it was stored.

#if defined(__AVX512F__)
constexpr int kFloatColumns = 12, kFloatPanels = 2;  // 24 of 32 registers
#else
constexpr int kFloatColumns = 6, kFloatPanels = 1;
#endif
static_assert(kFloatColumns <= kMaxFloatColumns && kFloatPanels <= kMaxFloatPanels);

constexpr int64_t kBlockInputs = 192;  // of kFloatPanels expanded panels: half of a first-level cache

// acc[c][p] += sum over k of w[p][k] x[c][k]. Panels are kPanelStride floats apart; x(c, k) lies at c*XC + k*XK.
template <int P, int C, int XC, int XK>
inline void fma_tile(const float* w, int64_t panel_stride, const float* x, int64_t inputs, Floats (&acc)[C][P]) {
  for (int64_t k = 0; k < inputs; ++k, w += kRows, x += XK) {
    Floats weights[P];
    for (int p = 0; p < P; ++p) weights[p] = load(w + p * panel_stride);
    for (int c = 0; c < C; ++c) {
      const Floats value = splat(x[c * XC]);
      for (int p = 0; p < P; ++p) acc[c][p] = fma(weights[p], value, acc[c][p]);
    }
  }
}

// out [C][P 16] (row stride `stride`) = or += the product.
template <int P, int C, int XC, int XK>
inline void tile_product(const float* w, int64_t panel_stride, const float* x, int64_t inputs, bool fresh, float* out,
                         int64_t stride) {
  Floats acc[C][P];
  for (int c = 0; c < C; ++c)
    for (int p = 0; p < P; ++p) acc[c][p] = fresh ? zero() : load(out + c * stride + p * kRows);
  fma_tile<P, C, XC, XK>(w, panel_stride, x, inputs, acc);
  for (int c = 0; c < C; ++c)
    for (int p = 0; p < P; ++p) store(out + c * stride + p * kRows, acc[c][p]);
}

// Rows of activations side by side: [inputs kFloatColumns], missing columns zero.
void pack_columns(const float* x, int64_t stride, int columns, int64_t inputs, float* out) {
  if (columns < kFloatColumns)
    for (int64_t i = 0; i < inputs * kFloatColumns; ++i) out[i] = 0.0f;
  for (int64_t k0 = 0; k0 < inputs; k0 += 16) {
    const int64_t k1 = least<int64_t>(inputs, k0 + 16);
    for (int c = 0; c < columns; ++c)
      for (int64_t k = k0; k < k1; ++k) out[k * kFloatColumns + c] = x[c * stride + k];
  }
}

template <class W, int P>
void float_block_of(const uint8_t* panels, int64_t panel_bytes, int64_t inputs, const float* x, int64_t tiles,
                    float* out) {
  alignas(64) float weights[P * kBlockInputs * kRows];
  constexpr int64_t stride = kFloatPanels * kRows;
  for (int64_t k0 = 0; k0 < inputs; k0 += kBlockInputs) {
    const int64_t count = least<int64_t>(kBlockInputs, inputs - k0);
    for (int p = 0; p < P; ++p)
      for (int64_t k = 0; k < count; ++k)
        store(weights + (p * kBlockInputs + k) * kRows, W::weights(panels + p * panel_bytes + (k0 + k) * W::kBytes));
    for (int64_t t = 0; t < tiles; ++t)
      tile_product<P, kFloatColumns, 1, kFloatColumns>(weights, kBlockInputs * kRows,
                                                       x + (t * inputs + k0) * kFloatColumns, count, k0 == 0,
                                                       out + t * kFloatColumns * stride, stride);
  }
}

// Up to kFloatPanels panels of float weights times `tiles` packed tiles of columns: out [tiles
// kFloatColumns][kFloatPanels 16].
void float_block(Layout layout, const uint8_t* panels, int64_t panel_bytes, int count, int64_t inputs, const float* x,
                 int64_t tiles, float* out) {
  with_layout(layout, [&]<class W>(W) {
    if constexpr (!W::kQuantized) {
      if (count == kFloatPanels) float_block_of<W, kFloatPanels>(panels, panel_bytes, inputs, x, tiles, out);
      else float_block_of<W, 1>(panels, panel_bytes, inputs, x, tiles, out);
    }
  });
}

void layer_norm(const float* x, const float* weight, const float* bias, float* y, int64_t width, float eps) {
  Floats total = zero();
  map(width, [&](int64_t i, int n) { total = add(total, load_some(x + i, n)); });
  const Floats mean = splat(sum(total) / static_cast<float>(width));
  Floats squares = zero();
  map(width, [&](int64_t i, int n) {
    const Floats v = keep_first(sub(load_some(x + i, n), mean), n, 0.0f);
    squares = fma(v, v, squares);
  });
  const Floats scale = splat(1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(width) + eps));
  map(width, [&](int64_t i, int n) {
    const Floats v = mul(sub(load_some(x + i, n), mean), scale);
    store_some(y + i, fma(v, load_some(weight + i, n), load_some(bias + i, n)), n);
  });
}

void add_bias(float* x, const float* bias, int64_t count) {
  map(count, [&](int64_t i, int n) { store_some(x + i, add(load_some(x + i, n), load_some(bias + i, n)), n); });
}

// 0.5 (1 + tanh u) is sigmoid(2u).
inline Floats gelu_tanh(Floats x) {
  const Floats cube = mul(mul(x, x), x);
  return mul(x, sigmoid(mul(fma(cube, splat(0.044715f), x), splat(1.5957691216f))));
}

// The share of a normal distribution below x, from the complementary error function of |x| / sqrt(2) as an exponential
// times a polynomial in t = 1 / (1 + z/2) (Chebyshev coefficients, relative error 1.2e-7).
inline Floats normal_share(Floats x) {
  const Floats z = mul(abs(x), splat(0.70710678f)), t = div(splat(1.0f), fma(z, splat(0.5f), splat(1.0f)));
  Floats p = splat(0.17087277f);
  p = fma(p, t, splat(-0.82215223f));
  p = fma(p, t, splat(1.48851587f));
  p = fma(p, t, splat(-1.13520398f));
  p = fma(p, t, splat(0.27886807f));
  p = fma(p, t, splat(-0.18628806f));
  p = fma(p, t, splat(0.09678418f));
  p = fma(p, t, splat(0.37409196f));
  p = fma(p, t, splat(1.00002368f));
  p = fma(p, t, splat(-1.26551223f));
  const Floats upper = mul(mul(t, splat(0.5f)), exp(fma(z, sub(zero(), z), p)));
  // x below zero: `upper`; above: 1 - upper.
  const Floats below = zero_below(splat(1.0f), x, 0.0f);  // 0 where x < 0, else 1
  return fma(sub(splat(1.0f), add(below, below)), upper, below);
}

void gelu(float* x, int64_t count, bool exact) {
  map(count, [&](int64_t i, int n) {
    const Floats v = load_some(x + i, n);
    store_some(x + i, exact ? mul(v, normal_share(v)) : gelu_tanh(v), n);
  });
}

// Turns a head of `dim` values over its whole width, in pairs (i, i + dim/2).
inline void rotate_head(const float* x, const float* cos, const float* sin, float scale, float* out, int dim) {
  const int half = dim / 2;
  map(half, [&](int64_t i, int n) {
    const Floats a = load_some(x + i, n), b = load_some(x + half + i, n);
    const Floats c = load_some(cos + i, n), d = load_some(sin + i, n);
    store_some(out + i, mul(fma(a, c, sub(zero(), mul(b, d))), splat(scale)), n);
    store_some(out + half + i, mul(fma(b, c, mul(a, d)), splat(scale)), n);
  });
}

// One row of one head into the layouts attention reads (VisionHeads in kernels/table.h).
void pack_head(const float* query, const float* key, const float* value, const float* cos, const float* sin,
               const VisionHeads& v, int64_t head, int64_t row) {
  const int dim = v.head_dim;
  float rotated[kMaxVisionDim];
  rotate_head(query, cos, sin, 1.0f / __builtin_sqrtf(static_cast<float>(dim)), rotated, dim);
  float* q = v.queries + (head * v.query_tiles + row / kFloatColumns) * kFloatColumns * dim + row % kFloatColumns;
  for (int i = 0; i < dim; ++i) q[i * kFloatColumns] = rotated[i];
  rotate_head(key, cos, sin, 1.0f, rotated, dim);
  float* k = v.keys + (head * v.key_panels + row / kRows) * kRows * dim + row % kRows;
  for (int i = 0; i < dim; ++i) k[i * kRows] = rotated[i];
  const int panels = (dim + kRows - 1) / kRows;
  for (int p = 0; p < panels; ++p) {
    float* to = v.values + ((head * panels + p) * v.rows + row) * kRows;
    store(to, load_some(value + p * kRows, least(kRows, dim - p * kRows)));
  }
}

// kFloatColumns queries a tile, kVisionTiles tiles a task.
constexpr int kVisionScoreStride = kVisionSpan + 16;

// The weighted sum of `count` values from `first` on, added to `sums` [tiles kFloatColumns][panels 16].
template <int P>
inline void add_values(const VisionHeads& v, int64_t head, int64_t first, int64_t count, int panel, int tiles,
                       const float* weights, float* sums) {
  const int panels = (v.head_dim + kRows - 1) / kRows, width = panels * kRows;
  const float* values = v.values + ((head * panels + panel) * v.rows + first) * kRows;
  for (int t = 0; t < tiles; ++t)
    tile_product<P, kFloatColumns, kVisionScoreStride, 1>(
        values, v.rows * kRows, weights + t * kFloatColumns * kVisionScoreStride, count, false,
        sums + t * kFloatColumns * width + panel * kRows, width);
}

template <int P>
inline void score_keys(const VisionHeads& v, int64_t head, int64_t panel, int64_t tile, int tiles, float* scores) {
  const float* keys = v.keys + (head * v.key_panels + panel) * kRows * v.head_dim;
  for (int t = 0; t < tiles; ++t)
    tile_product<P, kFloatColumns, 1, kFloatColumns>(
        keys, kRows * v.head_dim, v.queries + (head * v.query_tiles + tile + t) * kFloatColumns * v.head_dim,
        v.head_dim, true, scores + t * kFloatColumns * kVisionScoreStride, kVisionScoreStride);
}

// Scores of one query against a span become weights; its running maximum, weight and sums are brought along.
inline void weigh_row(float* scores, int64_t count, float& top, float& weight, float* sums, int width) {
  Floats best = splat(top);
  for (int64_t j = 0; j < count; j += 16) {
    const Floats s = keep_first(load(scores + j), static_cast<int>(least<int64_t>(16, count - j)), -INFINITY);
    store(scores + j, s);
    best = max(s, best);
  }
  const float now = largest(best);
  float factors[16];
  store(factors, exp(splat(top - now)));
  Floats total = zero();
  for (int64_t j = 0; j < count; j += 16) {
    const Floats e = exp(sub(load(scores + j), splat(now)));
    store(scores + j, e);
    total = add(total, e);
  }
  top = now;
  weight = __builtin_fmaf(weight, factors[0], sum(total));
  for (int i = 0; i < width; i += 16) store(sums + i, mul(load(sums + i), splat(factors[0])));
}

// Rows tile*kFloatColumns and on, of one head, against all keys.
void vision_attention(const VisionHeads& v, int64_t head, int64_t tile, int tiles, float* out, int64_t out_stride,
                      int64_t first_row, int64_t end_row) {
  constexpr int kMost = kVisionTiles * kFloatColumns;
  alignas(64) float scores[kMost * kVisionScoreStride];
  alignas(64) float sums[kMost * kMaxVisionDim];
  float top[kMost], weight[kMost];
  const int panels = (v.head_dim + kRows - 1) / kRows, width = panels * kRows, rows = tiles * kFloatColumns;
  for (int r = 0; r < rows; ++r) {
    top[r] = -INFINITY;
    weight[r] = 0.0f;
  }
  for (int i = 0; i < rows * width; ++i) sums[i] = 0.0f;
  for (int64_t start = 0; start < v.rows; start += kVisionSpan) {
    const int64_t count = least<int64_t>(kVisionSpan, v.rows - start), first = start / kRows;
    const int64_t used = (count + kRows - 1) / kRows;
    int64_t p = 0;
    for (; p + kFloatPanels <= used; p += kFloatPanels)
      score_keys<kFloatPanels>(v, head, first + p, tile, tiles, scores + p * kRows);
    for (; p < used; ++p) score_keys<1>(v, head, first + p, tile, tiles, scores + p * kRows);
    for (int r = 0; r < rows; ++r)
      weigh_row(scores + r * kVisionScoreStride, count, top[r], weight[r], sums + r * width, width);
    constexpr int64_t kValues = 128;  // of two panels: a third of a first-level cache
    for (int64_t j = 0; j < count; j += kValues) {
      const int64_t n = least<int64_t>(kValues, count - j);
      int panel = 0;
      for (; panel + kFloatPanels <= panels; panel += kFloatPanels)
        add_values<kFloatPanels>(v, head, start + j, n, panel, tiles, scores + j, sums);
      for (; panel < panels; ++panel) add_values<1>(v, head, start + j, n, panel, tiles, scores + j, sums);
    }
  }
  for (int r = 0; r < rows; ++r) {
    const int64_t row = tile * kFloatColumns + r;
    if (row < first_row || row >= end_row) continue;
    const Floats scale = splat(weight[r]);
    map(v.head_dim, [&](int64_t i, int n) {
      store_some(out + (row - first_row) * out_stride + i, div(load(sums + r * width + i), scale), n);
    });
  }
}
