// Products of one weight panel (16 output rows) with one or many activation rows.
//
// Per output element there is one chain: runs of 32 inputs in ascending order, each adding
//   fma(scale_w * dot, scale_x, acc)   and, where the format has minima,   fma(minimum, -scale_x * sum_x, acc).
// Dots are exact integers. The number of columns changes only which registers are used, so every column count and
// both loops below give the same bits.

template <class F>
inline Floats scaled_dot(const Codes c[8], const Side& s, const ActivationRun& x) {
  int32_t x4[8];
  std::memcpy(x4, x.q, 32);
  if constexpr (F::kPair) {
    Ints dot[2];
    for (int h = 0; h < 2; ++h) {
      dot[h] = F::kWide ? wide_start(x.neg_isum16[h]) : splat_int(x.neg_isum16[h] * F::kOffset);
      for (int i = 4 * h; i < 4 * h + 4; ++i)
        dot[h] = F::kWide ? dot4_wide(dot[h], c[i], x4[i]) : dot4(dot[h], c[i], x4[i]);
    }
    return fma(to_floats(dot[1]), s.scale[1], mul(to_floats(dot[0]), s.scale[0]));
  } else {
    Ints even = F::kWide ? wide_start(x.neg_isum) : splat_int(x.neg_isum * F::kOffset), odd = splat_int(0);
    for (int i = 0; i < 8; i += 2) {
      even = F::kWide ? dot4_wide(even, c[i], x4[i]) : dot4(even, c[i], x4[i]);
      odd = F::kWide ? dot4_wide(odd, c[i + 1], x4[i + 1]) : dot4(odd, c[i + 1], x4[i + 1]);
    }
    return mul(to_floats(add(even, odd)), s.scale[0]);
  }
}

template <class F>
inline Floats add_run(Floats acc, const Codes c[8], const Side& s, const ActivationRun& x) {
  acc = fma(scaled_dot<F>(c, s, x), splat(x.scale), acc);
  if constexpr (F::kMinima == 1) acc = fma(s.minimum[0], splat(x.neg_sum), acc);
  if constexpr (F::kMinima == 2) {
    acc = fma(s.minimum[0], splat(x.neg_sum16[0]), acc);
    acc = fma(s.minimum[1], splat(x.neg_sum16[1]), acc);
  }
  return acc;
}

// Few columns: unpack in registers, use at once.
template <class F, int C>
void panel_few(const uint8_t* w, int64_t inputs, const ActivationRun* x, int64_t stride, float* out) {
  Floats acc[C];
  for (int c = 0; c < C; ++c) acc[c] = zero();
  for (int64_t g = 0; g < inputs / F::kInputs; ++g, w += F::kBytes) {
    prefetch(w + 4096, F::kBytes);
    F format;
    format.begin(w);
    for (int j = 0; j < F::kInputs / kRun; ++j, ++x) {
      Codes codes[8];
      Side side;
      format.block(w, j, codes, side);
      for (int c = 0; c < C; ++c) acc[c] = add_run<F>(acc[c], codes, side, x[c * stride]);
    }
  }
  for (int c = 0; c < C; ++c) store(out + c * kRows, acc[c]);
}

// Many columns: unpack a slab once, then run all columns over it, keeping partial sums in `out`.
constexpr int kSlabRuns = 8;
struct UnpackedRun {
  alignas(64) uint8_t codes[512];
  alignas(64) float scale[2][kRows], minimum[2][kRows];
};

template <class F, int C>
inline void slab_columns(const UnpackedRun* slab, int runs, bool first, const ActivationRun* x, int64_t stride,
                         float* out) {
  Floats acc[C];
  for (int c = 0; c < C; ++c) acc[c] = first ? zero() : load(out + c * kRows);
  for (int j = 0; j < runs; ++j) {
    Codes codes[8];
    Side side;
    load_wide(slab[j].codes, codes);
    for (int h = 0; h <= (F::kPair ? 1 : 0); ++h) side.scale[h] = load(slab[j].scale[h]);
    for (int h = 0; h < F::kMinima; ++h) side.minimum[h] = load(slab[j].minimum[h]);
    for (int c = 0; c < C; ++c) acc[c] = add_run<F>(acc[c], codes, side, x[c * stride + j]);
  }
  for (int c = 0; c < C; ++c) store(out + c * kRows, acc[c]);
}

template <class F>
void panel_many(const uint8_t* w, int64_t inputs, const ActivationRun* x, int64_t stride, int columns, float* out) {
  UnpackedRun slab[kSlabRuns];
  const int64_t total = inputs / kRun;
  constexpr int per_group = F::kInputs / kRun;
  for (int64_t run = 0; run < total; run += kSlabRuns) {
    const int runs = static_cast<int>(total - run < kSlabRuns ? total - run : kSlabRuns);
    for (int j = 0; j < runs; j += per_group, w += F::kBytes) {
      prefetch(w + 4096, F::kBytes);
      F format;
      format.begin(w);
      for (int k = 0; k < per_group; ++k) {
        Codes codes[8];
        Side side;
        format.block(w, k, codes, side);
        UnpackedRun& u = slab[j + k];
        for (int i = 0; i < 8; ++i) store_codes(u.codes + 64 * i, codes[i]);
        for (int h = 0; h <= (F::kPair ? 1 : 0); ++h) store(u.scale[h], side.scale[h]);
        for (int h = 0; h < F::kMinima; ++h) store(u.minimum[h], side.minimum[h]);
      }
    }
    int c = 0;
    for (; c + 8 <= columns; c += 8)
      slab_columns<F, 8>(slab, runs, run == 0, x + c * stride + run, stride, out + c * kRows);
    for (; c < columns; ++c) slab_columns<F, 1>(slab, runs, run == 0, x + c * stride + run, stride, out + c * kRows);
  }
}

template <class F>
void quantised_panel(const uint8_t* w, int64_t inputs, const ActivationRun* x, int64_t stride, int columns,
                     float* out) {
  switch (columns) {
    case 1: return panel_few<F, 1>(w, inputs, x, stride, out);
    case 2: return panel_few<F, 2>(w, inputs, x, stride, out);
    case 3: return panel_few<F, 3>(w, inputs, x, stride, out);
    case 4: return panel_few<F, 4>(w, inputs, x, stride, out);
    case 5: return panel_few<F, 5>(w, inputs, x, stride, out);
    case 6: return panel_few<F, 6>(w, inputs, x, stride, out);
    case 7: return panel_few<F, 7>(w, inputs, x, stride, out);
    case 8: return panel_few<F, 8>(w, inputs, x, stride, out);
    default: return panel_many<F>(w, inputs, x, stride, columns, out);
  }
}

template <class W, int C>
void float_columns(const uint8_t* w, int64_t inputs, const float* x, int64_t stride, float* out) {
  Floats acc[C];
  for (int c = 0; c < C; ++c) acc[c] = zero();
  for (int64_t k = 0; k < inputs; ++k, w += W::kBytes) {
    if (k % 16 == 0) prefetch(w + 4096, 16 * W::kBytes);
    const Floats weights = W::weights(w);
    for (int c = 0; c < C; ++c) acc[c] = fma(weights, splat(x[c * stride + k]), acc[c]);
  }
  for (int c = 0; c < C; ++c) store(out + c * kRows, acc[c]);
}

template <class W>
void float_panel(const uint8_t* w, int64_t inputs, const float* x, int64_t stride, int columns, float* out) {
  const auto run = [&]<int C>(std::integral_constant<int, C>, int c) {
    float_columns<W, C>(w, inputs, x + c * stride, stride, out + c * kRows);
    return c + C;
  };
  int c = 0;
  while (columns - c >= 12) c = run(std::integral_constant<int, 12>{}, c);
  if (columns - c >= 8) c = run(std::integral_constant<int, 8>{}, c);
  if (columns - c >= 4) c = run(std::integral_constant<int, 4>{}, c);
  if (columns - c >= 2) c = run(std::integral_constant<int, 2>{}, c);
  if (columns - c >= 1) run(std::integral_constant<int, 1>{}, c);
}

void panel(Layout layout, const uint8_t* w, int64_t inputs, const ActivationRun* xq, const float* xf, int64_t stride,
           int columns, float* out) {
  with_format(
      layout, [&]<class W>(W) { float_panel<W>(w, inputs, xf, stride, columns, out); },
      [&]<class F>(F) { quantised_panel<F>(w, inputs, xq, stride, columns, out); });
}

// q = round_half_even(x * 127 / largest magnitude), per run of 32.
void quantise(const float* x, int64_t inputs, ActivationRun* out) {
  for (int64_t k = 0; k < inputs; k += kRun, ++out) {
    const Floats a = load(x + k), b = load(x + k + 16);
    const float top = largest(max(abs(a), abs(b)));
    // 127 / top overflows below 3.8e-37: such a run counts as zero.
    const float inverse = 127.0f / top, used = inverse > 3.4e38f ? 0.0f : inverse;
    store_i8(out->q, round_even(mul(a, splat(used))));
    store_i8(out->q + 16, round_even(mul(b, splat(used))));
    out->scale = used == 0.0f ? 0.0f : top / 127.0f;
    int32_t sums[2] = {0, 0};
    for (int i = 0; i < kRun; ++i) sums[i / 16] += out->q[i];
    for (int h = 0; h < 2; ++h) {
      out->neg_isum16[h] = -sums[h];
      out->neg_sum16[h] = -(out->scale * static_cast<float>(sums[h]));
    }
    out->neg_isum = -(sums[0] + sums[1]);
    out->neg_sum = -(out->scale * static_cast<float>(sums[0] + sums[1]));
  }
}

// One row of a panel as floats: the embedding reads the head's own packed weights.
template <class F>
void read_quantised(const uint8_t* w, int64_t inputs, int row, float* out) {
  for (int64_t g = 0; g < inputs / F::kInputs; ++g, w += F::kBytes) {
    F format;
    format.begin(w);
    for (int j = 0; j < F::kInputs / kRun; ++j, out += kRun) {
      Codes codes[8];
      Side side;
      format.block(w, j, codes, side);
      float scale[2][kRows], minimum[2][kRows];
      for (int h = 0; h <= (F::kPair ? 1 : 0); ++h) store(scale[h], side.scale[h]);
      for (int h = 0; h < F::kMinima; ++h) store(minimum[h], side.minimum[h]);
      for (int i = 0; i < 8; ++i) {
        uint8_t bytes[64];
        store_codes(bytes, codes[i]);
        const int h = i / 4;
        for (int b = 0; b < 4; ++b) {
          const int code = bytes[4 * row + b] - (F::kWide ? 128 : F::kOffset);
          const float value = scale[F::kPair ? h : 0][row] * static_cast<float>(code);
          out[4 * i + b] = F::kMinima ? value - minimum[F::kMinima == 2 ? h : 0][row] : value;
        }
      }
    }
  }
}
template <class W>
void read_float(const uint8_t* w, int64_t inputs, int row, float* out) {
  for (int64_t k = 0; k < inputs; ++k) {
    float values[kRows];
    store(values, W::weights(w + k * W::kBytes));
    out[k] = values[row];
  }
}
void read_row(Layout layout, const uint8_t* w, int64_t inputs, int row, float* out) {
  with_format(
      layout, [&]<class W>(W) { read_float<W>(w, inputs, row, out); },
      [&]<class F>(F) { read_quantised<F>(w, inputs, row, out); });
}
