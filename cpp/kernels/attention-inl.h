// Gated attention over paged float16 keys and values.
//
// Keys lie in groups of 16 positions, [head_dim][16]: a score is one lane, four interleaved sums over the head. Values
// lie [position][head_dim]. A span of 512 positions gives a partial softmax of its own; partials are merged in
// ascending order, so neither threads nor the number of queries can change a bit.

inline const uint16_t* key_group(const AttentionTask& t, int64_t position) {
  const int64_t page = t.page_table[position / kPage];
  return t.keys + ((page * t.kv_heads + t.kv_head) * kPage + position % kPage / kKeys * kKeys) * t.head_dim;
}
inline const uint16_t* value_row(const AttentionTask& t, int64_t position) {
  const int64_t page = t.page_table[position / kPage];
  return t.values + ((page * t.kv_heads + t.kv_head) * kPage + position % kPage) * t.head_dim;
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

void store_key_value(const float* key, const float* norm, const float* cos, const float* sin, const float* value,
                     uint16_t* keys, uint16_t* values, int64_t page, int offset, int kv_head, const AttentionShape& s) {
  float turned[kMaxHeadDim];
  uint16_t half[kMaxHeadDim];
  norm_and_turn(key, norm, cos, sin, 1.0f, turned, s);
  for (int i = 0; i < s.head_dim; i += 16) store_half(half + i, load(turned + i));
  const int64_t base = (page * s.kv_heads + kv_head) * kPage;
  uint16_t* group = keys + (base + offset / kKeys * kKeys) * s.head_dim;
  for (int i = 0; i < s.head_dim; ++i) group[i * kKeys + offset % kKeys] = half[i];
  uint16_t* row = values + (base + offset) * s.head_dim;
  for (int i = 0; i < s.head_dim; i += 16) store_half(row + i, load(value + i));
}

// Scores of G heads against one group of 16 keys.
template <int G>
inline void score_group(const float* query, const uint16_t* group, int head_dim, float* scores) {
  Floats acc[G][4];
  for (int h = 0; h < G; ++h)
    for (int i = 0; i < 4; ++i) acc[h][i] = zero();
  for (int d = 0; d < head_dim; d += 4)
    for (int i = 0; i < 4; ++i) {
      const Floats key = load_half(group + (d + i) * kKeys);
      for (int h = 0; h < G; ++h) acc[h][i] = fma(key, splat(query[h * head_dim + d + i]), acc[h][i]);
    }
  for (int h = 0; h < G; ++h) store(scores + h * kSpan, add(add(acc[h][0], acc[h][1]), add(acc[h][2], acc[h][3])));
}

// Weighted sum of value rows for G heads, 64 dimensions at a time, positions in ascending order.
template <int G>
inline void sum_values(const AttentionTask& t, int64_t start, int count, const float* weights, float* sums) {
  for (int d = 0; d < t.head_dim; d += 64) {
    Floats acc[G][4];
    for (int h = 0; h < G; ++h)
      for (int i = 0; i < 4; ++i) acc[h][i] = zero();
    for (int j = 0; j < count; ++j) {
      const uint16_t* row = value_row(t, start + j) + d;
      for (int i = 0; i < 4; ++i) {
        const Floats value = load_half(row + 16 * i);
        for (int h = 0; h < G; ++h) acc[h][i] = fma(splat(weights[h * kSpan + j]), value, acc[h][i]);
      }
    }
    for (int h = 0; h < G; ++h)
      for (int i = 0; i < 4; ++i) store(sums + h * t.head_dim + d + 16 * i, acc[h][i]);
  }
}

template <int G>
void attend_heads(const AttentionTask& t, int64_t start, int count, const float* query, Partial* partial, float* sums) {
  alignas(64) float scores[G * kSpan];
  for (int j = 0; j < count; j += kKeys) score_group<G>(query, key_group(t, start + j), t.head_dim, scores + j);
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
  sum_values<G>(t, start, count, scores, sums);
}

void attend_span(const AttentionTask& t, int64_t span, Partial* partial, float* sums) {
  const int64_t start = span * kSpan;
  const int count = static_cast<int>(least<int64_t>(kSpan, t.position + 1 - start));
  int h = 0;
  for (; h + 4 <= t.group; h += 4)
    attend_heads<4>(t, start, count, t.query + h * t.head_dim, partial + h, sums + h * t.head_dim);
  for (; h < t.group; ++h)
    attend_heads<1>(t, start, count, t.query + h * t.head_dim, partial + h, sums + h * t.head_dim);
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
