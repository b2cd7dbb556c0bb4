// Products of weight panels (16 output rows each) with one or many activation rows.
//
// Per output element there is one chain: runs of 32 inputs in ascending order, each adding
//   fma(scale_w * dot, scale_x, acc)   and, where the format has minima,   fma(minimum, -scale_x * sum_x, acc).
// Dots are exact integers. The number of columns changes only which registers are used, so every column count and
// both loops below give the same bits.
//
// A dot starts at kSumBase, so its bits are a float already, 1.5 * 2^23 too large. With exact formats scale_w * dot is
// then one operation: in fma(sum, scale_w, -1.5 * 2^23 * scale_w) only the final rounding is one.

constexpr float kSumOffset = 0x1.8p23f;  // the float that kSumBase is the bits of

template <int Offset>
inline Ints start_run(const ActivationRun& x) {
  if constexpr (Offset == 0) return splat_int(kSumBase);
  else if constexpr (Offset == 8) return splat_int(x.start8);
  else if constexpr (Offset == 128) return splat_int(x.start128);
  else return splat_int(kSumBase + Offset / 8 * (x.start8 - kSumBase));
}
template <int Offset>
inline Ints start_half(const ActivationRun& x, int half) {
  if constexpr (Offset == 0) return splat_int(kSumBase);
  else if constexpr (Offset == 32) return splat_int(x.start32[half]);
  else return splat_int(kSumBase + Offset / 32 * (x.start32[half] - kSumBase));
}
template <class F>
inline Ints start(const ActivationRun& x, int half) {
  constexpr int offset = F::kWide && !kWideOffset ? 0 : F::kOffset;
  return F::kPair ? start_half<offset>(x, half) : start_run<offset>(x);
}
template <class F>
inline Ints dot(Ints acc, Codes w, int32_t four_inputs) {
  return F::kWide ? dot4_wide(acc, w, four_inputs) : dot4(acc, w, four_inputs);
}

// The integer that was added to kSumBase, exactly.
inline Floats value_of(Ints sum) { return sub(as_floats(sum), splat(kSumOffset)); }
// What undoes kSumOffset in the first product of a run.
inline Floats undo_of(Floats scale) { return mul(scale, splat(-kSumOffset)); }
template <class F>
inline Floats first_product(Ints sum, Floats scale, Floats undo) {
  return F::kExact ? fma(as_floats(sum), scale, undo) : mul(value_of(sum), scale);
}

template <class F>
inline Floats add_run(Floats acc, Floats product, const Floats minimum[2], const ActivationRun& x) {
  acc = fma(product, splat(x.scale), acc);
  if constexpr (F::kMinima == 1) acc = fma(minimum[0], splat(x.neg_sum), acc);
  if constexpr (F::kMinima == 2) {
    acc = fma(minimum[0], splat(x.neg_sum16[0]), acc);
    acc = fma(minimum[1], splat(x.neg_sum16[1]), acc);
  }
  return acc;
}

inline Target moved(const Target& target, int64_t columns, int panels) {
  return {target.y + columns * target.stride + panels * kRows, target.stride, target.add};
}
inline void put(const Target& target, int64_t column, int panel, Floats product) {
  float* y = target.y + column * target.stride + panel * kRows;
  store(y, target.add ? add(load(y), product) : product);
}

// Few columns: unpack in registers, use at once.
template <class F, int C, bool kPrefetches = true>
void panel_few(const uint8_t* w, int64_t inputs, const ActivationRun* x, int64_t stride, const Target& target) {
  // Fetched evenly over the group: in one burst the requests would wait for each other and hold up the loads.
  constexpr int kRunBytes = F::kBytes * kRun / F::kInputs;
  Floats acc[C];
  for (int c = 0; c < C; ++c) acc[c] = zero();
  for (int64_t g = 0; g < inputs / F::kInputs; ++g, w += F::kBytes) {
    F format;
    format.begin(w);
    for (int j = 0; j < F::kInputs / kRun; ++j, ++x) {
      if (kPrefetches) prefetch(w + kAhead + j * kRunBytes, kRunBytes);
      Codes codes[8];
      Side side;
      format.block(w, j, codes, side);
      const Floats undo = undo_of(side.scale[0]);
      for (int c = 0; c < C; ++c) {
        const ActivationRun& run = x[c * stride];
        Ints sum = start<F>(run, 0);
        for (int i = 0; i < (F::kPair ? 4 : 8); ++i) sum = dot<F>(sum, codes[i], run.q4[i]);
        Floats product = first_product<F>(sum, side.scale[0], undo);
        if constexpr (F::kPair) {
          sum = start<F>(run, 1);
          for (int i = 4; i < 8; ++i) sum = dot<F>(sum, codes[i], run.q4[i]);
          product = fma(value_of(sum), side.scale[1], product);
        }
        acc[c] = add_run<F>(acc[c], product, side.minimum, run);
      }
    }
  }
  for (int c = 0; c < C; ++c) put(target, c, 0, acc[c]);
}

// Many columns: unpack a slab once, then run all columns over it, keeping partial sums beside it.
constexpr int kSlabRuns = 8, kFewColumns = 48;  // columns from which that pays
struct UnpackedRun {
  alignas(64) uint8_t codes[512];
  alignas(64) float scale[2][kRows], undo[kRows], minimum[2][kRows];
};

// A tile of P panels and C columns: every activation is broadcast once for P panels, every vector of codes loaded once
// for C columns. The last slab's sums go to the target.
template <class F, int P, int C>
inline void slab_tile(const UnpackedRun (*slab)[kSlabRuns], int runs, bool first, const ActivationRun* x,
                      int64_t stride, float* partial, const Target* target, int column) {
  Floats acc[P][C];
  for (int p = 0; p < P; ++p)
    for (int c = 0; c < C; ++c) acc[p][c] = first ? zero() : load(partial + (c * P + p) * kRows);
  for (int j = 0; j < runs; ++j) {
    Floats product[P][C];
    for (int half = 0; half < (F::kPair ? 2 : 1); ++half) {
      constexpr int vectors = F::kPair ? 4 : 8;
      Ints sum[P][C];
      for (int c = 0; c < C; ++c)
        for (int p = 0; p < P; ++p) sum[p][c] = start<F>(x[c * stride + j], half);
      for (int i = vectors * half; i < vectors * (half + 1); ++i) {
        Codes codes[P];
        for (int p = 0; p < P; ++p) codes[p] = load_codes(slab[p][j].codes + 64 * i);
        for (int c = 0; c < C; ++c)
          for (int p = 0; p < P; ++p) sum[p][c] = dot<F>(sum[p][c], codes[p], x[c * stride + j].q4[i]);
      }
      for (int p = 0; p < P; ++p) {
        const Floats scale = load(slab[p][j].scale[half]), undo = load(slab[p][j].undo);
        for (int c = 0; c < C; ++c)
          product[p][c] =
              half == 0 ? first_product<F>(sum[p][c], scale, undo) : fma(value_of(sum[p][c]), scale, product[p][c]);
      }
    }
    for (int p = 0; p < P; ++p) {
      Floats minimum[2];
      for (int h = 0; h < F::kMinima; ++h) minimum[h] = load(slab[p][j].minimum[h]);
      for (int c = 0; c < C; ++c) acc[p][c] = add_run<F>(acc[p][c], product[p][c], minimum, x[c * stride + j]);
    }
  }
  for (int c = 0; c < C; ++c)
    for (int p = 0; p < P; ++p) {
      if (target) put(*target, column + c, p, acc[p][c]);
      else store(partial + (c * P + p) * kRows, acc[p][c]);
    }
}

template <class F>
inline void unpack_run(const F& format, const uint8_t* w, int block, UnpackedRun& u) {
  Codes codes[8];
  Side side;
  format.block(w, block, codes, side);
  for (int i = 0; i < 8; ++i) store_codes(u.codes + 64 * i, codes[i]);
  for (int h = 0; h <= (F::kPair ? 1 : 0); ++h) store(u.scale[h], side.scale[h]);
  store(u.undo, undo_of(side.scale[0]));
  for (int h = 0; h < F::kMinima; ++h) store(u.minimum[h], side.minimum[h]);
}

template <class F, int P>
void panels_many(const uint8_t* w, int64_t panel_bytes, int64_t inputs, const ActivationRun* x, int64_t stride,
                 int columns, const Target& target) {
  UnpackedRun slab[P][kSlabRuns];
  alignas(64) float partial[kTileRows * P * kRows];
  const int64_t total = inputs / kRun;
  constexpr int per_group = F::kInputs / kRun;
  for (int64_t run = 0; run < total; run += kSlabRuns) {
    const int runs = static_cast<int>(least<int64_t>(total - run, kSlabRuns));
    for (int p = 0; p < P; ++p) {
      const uint8_t* group = w + p * panel_bytes + run / per_group * F::kBytes;
      for (int j = 0; j < runs; j += per_group, group += F::kBytes) {
        prefetch(group + kAhead, F::kBytes);
        F format;
        format.begin(group);
        for (int k = 0; k < per_group; ++k) unpack_run(format, group, k, slab[p][j + k]);
      }
    }
    const Target* last = run + runs == total ? &target : nullptr;
    const ActivationRun* at = x + run;
    int c = 0;
    for (; c + kTileColumns <= columns; c += kTileColumns)
      slab_tile<F, P, kTileColumns>(slab, runs, run == 0, at + c * stride, stride, partial + c * P * kRows, last, c);
    for (; c < columns; ++c)
      slab_tile<F, P, 1>(slab, runs, run == 0, at + c * stride, stride, partial + c * P * kRows, last, c);
  }
}

template <class F>
void quantized_panel(const uint8_t* w, int64_t inputs, const ActivationRun* x, int64_t stride, int columns,
                     const Target& target, bool prefetch_single) {
  switch (columns) {
    case 1:
      if (F::kPrefetchSingle || prefetch_single) return panel_few<F, 1>(w, inputs, x, stride, target);
      return panel_few<F, 1, F::kPrefetchSingle>(w, inputs, x, stride, target);
    case 2: return panel_few<F, 2>(w, inputs, x, stride, target);
    case 3: return panel_few<F, 3>(w, inputs, x, stride, target);
    case 4: return panel_few<F, 4>(w, inputs, x, stride, target);
    case 5: return panel_few<F, 5>(w, inputs, x, stride, target);
    case 6: return panel_few<F, 6>(w, inputs, x, stride, target);
    case 7: return panel_few<F, 7>(w, inputs, x, stride, target);
    case 8: return panel_few<F, 8>(w, inputs, x, stride, target);
    default: break;
  }
  // Unpacking once for every eight columns takes less time than writing a slab and reading it back, up to here.
  if (columns > kFewColumns) return panels_many<F, 1>(w, 0, inputs, x, stride, columns, target);
  panel_few<F, 8>(w, inputs, x, stride, target);
  quantized_panel<F>(w, inputs, x + 8 * stride, stride, columns - 8, moved(target, 8, 0), prefetch_single);
}

template <class W, int C, bool kPrefetches = true>
void float_columns(const uint8_t* w, int64_t inputs, const float* x, int64_t stride, const Target& target) {
  Floats acc[C];
  for (int c = 0; c < C; ++c) acc[c] = zero();
  for (int64_t k = 0; k < inputs; ++k, w += W::kBytes) {
    if (kPrefetches && k % 16 == 0) prefetch(w + kAhead, 16 * W::kBytes);
    const Floats weights = W::weights(w);
    for (int c = 0; c < C; ++c) acc[c] = fma(weights, splat(x[c * stride + k]), acc[c]);
  }
  for (int c = 0; c < C; ++c) put(target, c, 0, acc[c]);
}

template <class W>
void float_panel(const uint8_t* w, int64_t inputs, const float* x, int64_t stride, int columns, const Target& target,
                 bool prefetch_single) {
  const auto run = [&]<int C>(std::integral_constant<int, C>, int c) {
    float_columns<W, C>(w, inputs, x + c * stride, stride, moved(target, c, 0));
    return c + C;
  };
  int c = 0;
  while (columns - c >= 12) c = run(std::integral_constant<int, 12>{}, c);
  if (columns - c >= 8) c = run(std::integral_constant<int, 8>{}, c);
  if (columns - c >= 4) c = run(std::integral_constant<int, 4>{}, c);
  if (columns - c >= 2) c = run(std::integral_constant<int, 2>{}, c);
  if (columns - c < 1) return;
  if (prefetch_single) run(std::integral_constant<int, 1>{}, c);
  else float_columns<W, 1, false>(w, inputs, x + c * stride, stride, moved(target, c, 0));
}

// The panels of one layout, the entry of the kernel table.
template <class F>
void multiply_panels(const PanelTask& t) {
  if constexpr (F::kQuantized) {
    static_assert(kPanels == 2);
    if (t.count == 2 && kTilePanels == 2 && t.columns > kFewColumns)
      return panels_many<F, 2>(t.panels, t.panel_bytes, t.inputs, t.xq, t.x_stride, t.columns, t.target);
  }
  for (int p = 0; p < t.count; ++p) {
    const uint8_t* panel = t.panels + p * t.panel_bytes;
    const Target target = moved(t.target, 0, p);
    if constexpr (F::kQuantized) quantized_panel<F>(panel, t.inputs, t.xq, t.x_stride, t.columns, target, t.prefetch);
    else float_panel<F>(panel, t.inputs, t.xf, t.x_stride, t.columns, target, t.prefetch);
  }
}

// q = round_half_even(x * 127 / largest magnitude), per run of 32.
void quantize(const float* x, int64_t inputs, ActivationRun* out) {
  for (int64_t k = 0; k < inputs; k += kRun, ++out) {
    const Floats x0 = load(x + k), x1 = load(x + k + 16);
    const float top = largest(max(abs(x0), abs(x1)));
    // 127 / top overflows below 3.8e-37: such a run counts as zero.
    const float inverse = 127.0f / top;
    if (!(inverse > 0.0f && inverse <= 3.4e38f)) {
      *out = {{}, 0.0f, 0.0f, {}, kSumBase, kSumBase, {kSumBase, kSumBase}};
      continue;
    }
    const Floats q0 = round_even(mul(x0, splat(inverse))), q1 = round_even(mul(x1, splat(inverse)));
    store_i8(out->q(), q0);
    store_i8(out->q() + 16, q1);
    out->scale = top / 127.0f;
    const float sums[2] = {sum(q0), sum(q1)};  // of integers, so exact
    const int32_t isums[2] = {static_cast<int32_t>(sums[0]), static_cast<int32_t>(sums[1])};
    for (int h = 0; h < 2; ++h) {
      out->neg_sum16[h] = -(out->scale * sums[h]);
      out->start32[h] = kSumBase - 32 * isums[h];
    }
    out->neg_sum = -(out->scale * (sums[0] + sums[1]));
    out->start8 = kSumBase - 8 * (isums[0] + isums[1]);
    out->start128 = kSumBase - 128 * (isums[0] + isums[1]);
  }
}

// One row of a panel as floats: the embedding reads the head's own packed weights.
template <class F>
void read_quantized(const uint8_t* w, int64_t inputs, int row, float* out) {
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
          const int code = bytes[4 * row + b] - (F::kOffset);
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
  with_layout(layout, [&]<class F>(F) {
    if constexpr (F::kQuantized) read_quantized<F>(w, inputs, row, out);
    else read_float<F>(w, inputs, row, out);
  });
}
