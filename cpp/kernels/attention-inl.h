// Gated attention over paged keys and values (KvStore in common/table.h).
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

// Rows of the store before a position's own: head_dim values each.
inline int64_t stored_row(const AttentionTask& t, int64_t position) {
  const int64_t page = t.page_table[position / kPage];
  return (page * t.kv_heads + t.kv_head) * kPage + position % kPage;
}

inline void norm_and_turn(const float* x, const float* norm, const float* cos, const float* sin, float scale,
                          float* out, const AttentionShape& s) {
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
  norm_and_turn(query, norm, cos, sin, 1.0f / __builtin_sqrtf(static_cast<float>(s.head_dim)), out, s);
}

constexpr int kMaxHeadDim = 512;

// A block of int8 with its scale: the largest magnitude becomes 127, rounded half to even.
inline uint16_t quantise_block(const float* x, int8_t* q) {
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
  float turned[kMaxHeadDim];
  norm_and_turn(key, norm, cos, sin, 1.0f, turned, s);
  const int64_t base = (page * s.kv_heads + kv_head) * kPage, group = (base + offset / kKeys * kKeys) * s.head_dim;
  const int64_t row = (base + offset) * s.head_dim;
  const int lane = offset % kKeys, blocks = s.head_dim / kKvBlock;
  if (kv.bits == 32) {
    scatter_key(turned, static_cast<float*>(kv.keys) + group, lane, s.head_dim);
    for (int i = 0; i < s.head_dim; i += 16) store(static_cast<float*>(kv.values) + row + i, load(value + i));
  } else if (kv.bits == 16) {
    uint16_t half[kMaxHeadDim];
    for (int i = 0; i < s.head_dim; i += 16) store_half(half + i, load(turned + i));
    scatter_key(half, static_cast<uint16_t*>(kv.keys) + group, lane, s.head_dim);
    for (int i = 0; i < s.head_dim; i += 16) store_half(static_cast<uint16_t*>(kv.values) + row + i, load(value + i));
  } else {
    int8_t q[kMaxHeadDim];
    uint16_t* key_scales = kv.key_scales + (base + offset / kKeys * kKeys) * blocks;
    for (int b = 0; b < blocks; ++b) {
      key_scales[b * kKeys + lane] = quantise_block(turned + b * kKvBlock, q + b * kKvBlock);
      kv.value_scales[(base + offset) * blocks + b] =
          quantise_block(value + b * kKvBlock, static_cast<int8_t*>(kv.values) + row + b * kKvBlock);
    }
    scatter_key(q, static_cast<int8_t*>(kv.keys) + group, lane, s.head_dim);
  }
}

// Scores of G heads against one group of 16 keys.
template <int Bits, int G>
inline void score_group(const AttentionTask& t, const float* query, int64_t position, float* scores) {
  const int64_t row = stored_row(t, position) / kKeys * kKeys, base = row * t.head_dim;
  const int block = Bits == 8 ? kKvBlock : t.head_dim;
  Floats total[G];
  for (int first = 0; first < t.head_dim; first += block) {
    Floats acc[G][4];
    for (int h = 0; h < G; ++h)
      for (int i = 0; i < 4; ++i) acc[h][i] = zero();
    for (int d = first; d < first + block; d += 4)
      for (int i = 0; i < 4; ++i) {
        const Floats key = load_stored<Bits>(t.kv.keys, base + (d + i) * kKeys);
        for (int h = 0; h < G; ++h) acc[h][i] = fma(key, splat(query[h * t.head_dim + d + i]), acc[h][i]);
      }
    for (int h = 0; h < G; ++h) {
      const Floats part = add(add(acc[h][0], acc[h][1]), add(acc[h][2], acc[h][3]));
      if constexpr (Bits == 8) {
        const Floats scale = load_half(t.kv.key_scales + row * (t.head_dim / kKvBlock) + first / kKvBlock * kKeys);
        total[h] = first == 0 ? mul(part, scale) : fma(part, scale, total[h]);
      } else {
        total[h] = part;
      }
    }
  }
  for (int h = 0; h < G; ++h) store(scores + h * kSpan, total[h]);
}

// Weighted sum of value rows for G heads, 64 dimensions at a time, positions in ascending order.
template <int Bits, int G>
inline void sum_values(const AttentionTask& t, int64_t start, int count, const float* weights, float* sums) {
  static_assert(kKvBlock == 64);
  for (int d = 0; d < t.head_dim; d += 64) {
    Floats acc[G][4];
    for (int h = 0; h < G; ++h)
      for (int i = 0; i < 4; ++i) acc[h][i] = zero();
    for (int j = 0; j < count; ++j) {
      const int64_t row = stored_row(t, start + j);
      float scale = 1.0f;
      if constexpr (Bits == 8) scale = half_to_float(t.kv.value_scales[row * (t.head_dim / kKvBlock) + d / kKvBlock]);
      Floats weight[G];
      for (int h = 0; h < G; ++h) {
        const float w = weights[h * kSpan + j];
        weight[h] = splat(Bits == 8 ? w * scale : w);
      }
      for (int i = 0; i < 4; ++i) {
        const Floats value = load_stored<Bits>(t.kv.values, row * t.head_dim + d + 16 * i);
        for (int h = 0; h < G; ++h) acc[h][i] = fma(weight[h], value, acc[h][i]);
      }
    }
    for (int h = 0; h < G; ++h)
      for (int i = 0; i < 4; ++i) store(sums + h * t.head_dim + d + 16 * i, acc[h][i]);
  }
}

template <int Bits, int G>
void attend_heads(const AttentionTask& t, int64_t start, int count, const float* query, Partial* partial, float* sums) {
  alignas(64) float scores[G * kSpan];
  for (int j = 0; j < count; j += kKeys) score_group<Bits, G>(t, query, start + j, scores + j);
  for (int h = 0; h < G; ++h) {
    float* row = scores + h * kSpan;
    Floats top = splat(-INFINITY), total = zero();
    for (int j = 0; j < count; j += kKeys) {
      // Positions beyond the last may never have been written: their lanes are replaced, not multiplied away.
      const Floats s = keep_first(load(row + j), least(kKeys, count - j), -INFINITY);
      store(row + j, s);
      top = max(s, top);
    }
    partial[h].top = largest(top);
    for (int j = 0; j < count; j += kKeys) {
      const Floats weight = exp(sub(load(row + j), splat(partial[h].top)));
      store(row + j, weight);
      total = add(total, weight);
    }
    partial[h].weight = sum(total);
  }
  sum_values<Bits, G>(t, start, count, scores, sums);
}

template <int Bits>
void attend_group(const AttentionTask& t, int64_t span, Partial* partial, float* sums) {
  const int64_t start = span * kSpan;
  const int count = static_cast<int>(least<int64_t>(kSpan, t.position + 1 - start));
  int h = 0;
  for (; h + 4 <= t.group; h += 4)
    attend_heads<Bits, 4>(t, start, count, t.query + h * t.head_dim, partial + h, sums + h * t.head_dim);
  for (; h < t.group; ++h)
    attend_heads<Bits, 1>(t, start, count, t.query + h * t.head_dim, partial + h, sums + h * t.head_dim);
}

void attend_span(const AttentionTask& t, int64_t span, Partial* partial, float* sums) {
  if (t.kv.bits == 32) return attend_group<32>(t, span, partial, sums);
  if (t.kv.bits == 16) return attend_group<16>(t, span, partial, sums);
  return attend_group<8>(t, span, partial, sums);
}

void merge(Partial& into, float* into_sums, const Partial& from, const float* from_sums, int head_dim) {
  const float top = greatest(into.top, from.top);
  const float shifts[16] = {into.top - top, from.top - top};
  float factors[16];
  store(factors, exp(load(shifts)));
  into.top = top;
  into.weight = into.weight * factors[0] + from.weight * factors[1];
  for (int i = 0; i < head_dim; i += 16)
    store(into_sums + i, fma(load(from_sums + i), splat(factors[1]), mul(load(into_sums + i), splat(factors[0]))));
}

void finish(const Partial& partial, const float* sums, const float* gate, float* out, int head_dim) {
  const Floats weight = splat(partial.weight);
  for (int i = 0; i < head_dim; i += 16) store(out + i, mul(div(load(sums + i), weight), sigmoid(load(gate + i))));
}
