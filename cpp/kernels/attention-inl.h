// Gated attention over paged keys and values (KvStore in kernels/table.h).
//
// Keys lie in groups of 16 positions, so a score is one lane: four interleaved sums over the head, with 8 bits over
// each block of it, times the block's scale. A span of 512 positions gives a partial softmax of its own; partials are
// merged in ascending order, so neither threads nor the number of queries can change a bit.

// Sixteen stored values. The 8-bit ones are still to be multiplied by their block's scale.
template <int Bits>
inline Floats load_stored(const void* base, int64_t index) {
  if constexpr (Bits == 32) return load(static_cast<const float*>(base) + index);
  else if constexpr (Bits == 16) return load_half(static_cast<const uint16_t*>(base) + index);
  else return load_i8(static_cast<const uint8_t*>(base) + index);
}

// What is beyond a page may belong to another one or to nobody: a prefetch does no harm.
template <int Bits>
inline void prefetch_stored(const void* base, int64_t index) {
  prefetch(static_cast<const uint8_t*>(base) + index * Bits / 8, 1);
}
constexpr int kRowsAhead = 16;  // value rows fetched before they are read

// Rows of the store before a position's own: head_dim values each.
inline int64_t stored_row(const AttentionTask& t, int64_t position) {
  const int64_t page = t.page_table[position / kPage];
  return (page * t.kv_heads + t.kv_head) * kPage + position % kPage;
}

inline void norm_rope(const float* x, const float* norm, const float* cos, const float* sin, float scale, float* out,
                      const AttentionShape& s) {
  const float r = 1.0f / __builtin_sqrtf(sum_of_squares(x, s.head_dim) / static_cast<float>(s.head_dim) + s.eps);
  for (int i = 0; i < s.head_dim; i += 16) store(out + i, mul(mul(load(x + i), splat(r)), load(norm + i)));
  const int half = s.rotary_dim / 2;
  for (int i = 0; i < half; i += 16) {
    const Floats a = load(out + i), b = load(out + half + i), c = load(cos + i), d = load(sin + i);
    store(out + i, fma(a, c, sub(zero(), mul(b, d))));
    store(out + half + i, fma(b, c, mul(a, d)));
  }
  for (int i = 0; i < s.head_dim; i += 16) store(out + i, mul(load(out + i), splat(scale)));
}

void prepare_query(const float* query, const float* norm, const float* cos, const float* sin, float* out,
                   const AttentionShape& s) {
  norm_rope(query, norm, cos, sin, 1.0f / __builtin_sqrtf(static_cast<float>(s.head_dim)), out, s);
}

constexpr int kMaxHeadDim = 512;

// A block of int8 with its scale: the largest magnitude becomes 127, rounded half to even.
inline uint16_t quantize_block(const float* x, int8_t* q) {
  Floats top = zero();
  for (int i = 0; i < kKvBlock; i += 16) top = max(abs(load(x + i)), top);
  uint16_t half[16];
  float rounded[16];
  store_half(half, splat(largest(top) / 127.0f));
  store(rounded, load_half(half));
  const float inverse = rounded[0] > 0.0f ? 1.0f / rounded[0] : 0.0f;
  for (int i = 0; i < kKvBlock; i += 16) {
    const Floats scaled = round_even(mul(load(x + i), splat(inverse)));
    store_i8(q + i, max(min(scaled, splat(127.0f)), splat(-127.0f)));
  }
  return half[0];
}

template <class T>
inline void scatter_key(const T* key, T* group, int lane, int count) {
  for (int i = 0; i < count; ++i) group[i * kKeys + lane] = key[i];
}

void store_key_value(const float* key, const float* norm, const float* cos, const float* sin, const float* value,
                     const KvStore& kv, int64_t page, int offset, int kv_head, const AttentionShape& s) {
  float rotated[kMaxHeadDim];
  norm_rope(key, norm, cos, sin, 1.0f, rotated, s);
  const int64_t base = (page * s.kv_heads + kv_head) * kPage, group = (base + offset / kKeys * kKeys) * s.head_dim;
  const int64_t row = (base + offset) * s.head_dim;
  const int lane = offset % kKeys, blocks = s.head_dim / kKvBlock;
  if (kv.bits == 32) {
    scatter_key(rotated, static_cast<float*>(kv.keys) + group, lane, s.head_dim);
    for (int i = 0; i < s.head_dim; i += 16) store(static_cast<float*>(kv.values) + row + i, load(value + i));
  } else if (kv.bits == 16) {
    uint16_t half[kMaxHeadDim];
    for (int i = 0; i < s.head_dim; i += 16) store_half(half + i, load(rotated + i));
    scatter_key(half, static_cast<uint16_t*>(kv.keys) + group, lane, s.head_dim);
    for (int i = 0; i < s.head_dim; i += 16) store_half(static_cast<uint16_t*>(kv.values) + row + i, load(value + i));
  } else {
    int8_t q[kMaxHeadDim];
    uint16_t* key_scales = kv.key_scales + (base + offset / kKeys * kKeys) * blocks;
    for (int b = 0; b < blocks; ++b) {
      key_scales[b * kKeys + lane] = quantize_block(rotated + b * kKvBlock, q + b * kKvBlock);
      kv.value_scales[(base + offset) * blocks + b] =
          quantize_block(value + b * kKvBlock, static_cast<int8_t*>(kv.values) + row + b * kKvBlock);
    }
    scatter_key(q, static_cast<int8_t*>(kv.keys) + group, lane, s.head_dim);
  }
}

// Constant distances, so that one register addresses all rows and heads; odd in lines, so that they do not share a set
// of the first-level cache.
constexpr int kScoreStride = kSpan + 16, kQueryStride = kMaxHeadDim + 16;

// Scores of R rows of G heads against one group of 16 keys. The four sums over the head are made one after the other,
// so that all rows and heads fit the registers and a key is loaded once for all of them.
template <int Bits, int R, int G>
inline void score_group(const AttentionTask& t, const float* query, int64_t position, float* scores) {
  const int64_t at = stored_row(t, position) / kKeys * kKeys, base = at * t.head_dim;
  const int block = Bits == 8 ? kKvBlock : t.head_dim;
  Floats total[R * G];
  for (int first = 0; first < t.head_dim; first += block) {
    Floats part[R * G];
    for (int i = 0; i < 4; ++i) {
      Floats acc[R * G];
      for (int q = 0; q < R * G; ++q) acc[q] = zero();
      for (int d = first + i; d < first + block; d += 4) {
        prefetch_stored<Bits>(t.kv.keys, base + (t.head_dim + d) * kKeys);  // of the next group
        const Floats key = load_stored<Bits>(t.kv.keys, base + d * kKeys);
        for (int q = 0; q < R * G; ++q) acc[q] = fma(key, splat(query[q * kQueryStride + d]), acc[q]);
      }
      // (0 + 1) + (2 + 3)
      for (int q = 0; q < R * G; ++q) {
        float* kept = scores + q * kScoreStride;
        if (i == 0) store(kept, acc[q]);
        else if (i == 1) store(kept, add(load(kept), acc[q]));
        else if (i == 2) part[q] = acc[q];
        else part[q] = add(load(kept), add(part[q], acc[q]));
      }
    }
    for (int q = 0; q < R * G; ++q) {
      if constexpr (Bits == 8) {
        const Floats scale = load_half(t.kv.key_scales + at * (t.head_dim / kKvBlock) + first / kKvBlock * kKeys);
        total[q] = first == 0 ? mul(part[q], scale) : fma(part[q], scale, total[q]);
      } else {
        total[q] = part[q];
      }
    }
  }
  for (int q = 0; q < R * G; ++q) store(scores + q * kScoreStride, total[q]);
}

// Adds the value rows of positions first .. last-1, in ascending order, to the weighted sums of R rows of G heads.
template <int Bits, int R, int G>
inline void add_values(const AttentionTask& t, int64_t start, int first, int last, const float* weights, float* sums) {
  constexpr int kVectors = R == 1 ? 4 : 2;
  static_assert(kKvBlock % (16 * kVectors) == 0);
  for (int d = 0; d < t.head_dim; d += 16 * kVectors) {
    Floats acc[R * G][kVectors];
    for (int q = 0; q < R * G; ++q)
      for (int i = 0; i < kVectors; ++i) acc[q][i] = load(sums + q * t.head_dim + d + 16 * i);
    for (int j = first; j < last;) {
      int64_t at = stored_row(t, start + j);
      const int page_end = least<int>(last, j + kPage - static_cast<int>((start + j) % kPage));
      for (; j < page_end; ++j, ++at) {
        float scale = 1.0f;
        if constexpr (Bits == 8) scale = half_to_float(t.kv.value_scales[at * (t.head_dim / kKvBlock) + d / kKvBlock]);
        Floats value[kVectors];
        prefetch_stored<Bits>(t.kv.values, (at + kRowsAhead) * t.head_dim + d);
        for (int i = 0; i < kVectors; ++i) value[i] = load_stored<Bits>(t.kv.values, at * t.head_dim + d + 16 * i);
        for (int q = 0; q < R * G; ++q) {
          const float w = weights[q * kScoreStride + j];
          const Floats weight = splat(Bits == 8 ? w * scale : w);
          for (int i = 0; i < kVectors; ++i) acc[q][i] = fma(weight, value[i], acc[q][i]);
        }
      }
    }
    for (int q = 0; q < R * G; ++q)
      for (int i = 0; i < kVectors; ++i) store(sums + q * t.head_dim + d + 16 * i, acc[q][i]);
  }
}

// Turns the scores of `count` positions into weights.
inline void softmax_partial(float* row, int count, SoftmaxPartial& partial) {
  Floats top = splat(-INFINITY), total = zero();
  for (int j = 0; j < count; j += kKeys) {
    // Positions beyond the last may never have been written: their lanes are replaced, not multiplied away.
    const Floats s = keep_first(load(row + j), least(kKeys, count - j), -INFINITY);
    store(row + j, s);
    top = max(s, top);
  }
  partial.top = largest(top);
  for (int j = 0; j < count; j += kKeys) {
    const Floats weight = exp(sub(load(row + j), splat(partial.top)));
    store(row + j, weight);
    total = add(total, weight);
  }
  partial.weight = sum(total);
}

// R rows at positions that follow each other.
template <int Bits, int R, int G>
void attend_heads(const AttentionTask& t, int64_t start, int head, SoftmaxPartial* partial, float* sums) {
  // Positions of the span that a row attends to.
  const auto count = [&](int row) { return static_cast<int>(least<int64_t>(kSpan, t.position + row + 1 - start)); };
  alignas(64) float query[R * G * kQueryStride];
  alignas(64) float scores[R * G * kScoreStride];
  alignas(64) float out[R * G * kMaxHeadDim];
  for (int q = 0; q < R * G; ++q)
    for (int i = 0; i < t.head_dim; i += 16)
      store(query + q * kQueryStride + i, load(t.query + q / G * t.query_stride + (head + q % G) * t.head_dim + i));
  for (int j = 0; j < count(R - 1); j += kKeys) score_group<Bits, R, G>(t, query, start + j, scores + j);
  for (int q = 0; q < R * G; ++q)
    softmax_partial(scores + q * kScoreStride, count(q / G), partial[q / G * t.group + head + q % G]);
  for (int i = 0; i < R * G * t.head_dim; i += 16) store(out + i, zero());
  constexpr int kTogether = R == 1 ? 1 : 2;
  for (int r = 0; r < R; r += kTogether) {
    const float* weights = scores + r * G * kScoreStride;
    float* rows = out + r * G * t.head_dim;
    add_values<Bits, kTogether, G>(t, start, 0, count(r), weights, rows);
    for (int more = 1; more < kTogether; ++more)
      add_values<Bits, 1, G>(t, start, count(r), count(r + more), weights + more * G * kScoreStride,
                             rows + more * G * t.head_dim);
  }
  for (int q = 0; q < R * G; ++q)
    for (int i = 0; i < t.head_dim; i += 16)
      store(sums + (q / G * t.group + head + q % G) * t.head_dim + i, load(out + q * t.head_dim + i));
}

template <int Bits, int R>
void attend_group(const AttentionTask& t, int64_t span, SoftmaxPartial* partial, float* sums) {
  const int64_t start = span * kSpan;
  int head = 0;
  for (; head + 4 <= t.group; head += 4) attend_heads<Bits, R, 4>(t, start, head, partial, sums);
  for (; head < t.group; ++head) attend_heads<Bits, R, 1>(t, start, head, partial, sums);
}

template <int Bits>
void attend_rows(const AttentionTask& t, int64_t span, SoftmaxPartial* partial, float* sums) {
  if (t.rows == 1) attend_group<Bits, 1>(t, span, partial, sums);
  else attend_group<Bits, kQueryRows>(t, span, partial, sums);
}

void attend_span(const AttentionTask& t, int64_t span, SoftmaxPartial* partial, float* sums) {
  if (t.kv.bits == 32) return attend_rows<32>(t, span, partial, sums);
  if (t.kv.bits == 16) return attend_rows<16>(t, span, partial, sums);
  return attend_rows<8>(t, span, partial, sums);
}

void merge(SoftmaxPartial& into, float* into_sums, const SoftmaxPartial& from, const float* from_sums, int head_dim) {
  const float top = greatest(into.top, from.top);
  const float shifts[16] = {into.top - top, from.top - top};
  float factors[16];
  store(factors, exp(load(shifts)));
  into.top = top;
  into.weight = into.weight * factors[0] + from.weight * factors[1];
  for (int i = 0; i < head_dim; i += 16)
    store(into_sums + i, fma(load(from_sums + i), splat(factors[1]), mul(load(into_sums + i), splat(factors[0]))));
}

void finish(const SoftmaxPartial& partial, const float* sums, const float* gate, float* out, int head_dim) {
  const Floats weight = splat(partial.weight);
  for (int i = 0; i < head_dim; i += 16) store(out + i, mul(div(load(sums + i), weight), sigmoid(load(gate + i))));
}
