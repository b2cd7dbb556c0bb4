// Gated DeltaNet between its projections, for one key head and the value heads that read it.
//
// Tokens are taken in order, in chunks of at most kChunk, so that one pass over a tile of the state serves a whole
// chunk. The state S is [key value] with value columns in lanes: no sum runs across lanes. Every token does
//   a = S^T k, b = S^T q on the old state;  d = strength (v - decay a);  S = decay S + k d^T;  o = decay b + d (k q)
// with four interleaved sums over the keys. The update of one token and the sums of the next share a sweep; the
// values stored in between are the same, so chunks change no bit.

struct DeltaBuffers {
  alignas(64) float q[kChunk][128], k[kChunk][128], v[kChunk][128], o[kChunk][128];
  alignas(64) float kq[kChunk], decay[kChunk], strength[kChunk];
};

// Convolution of width 4 and silu over `width` channels; the tail keeps the last three inputs.
inline void conv_silu(const float* x, int64_t row_stride, int64_t n, const float* taps, int64_t channels, float* tail,
                      int width, float* out) {
  for (int c = 0; c < width; c += 16) {
    const Floats w0 = load(taps + c), w1 = load(taps + channels + c), w2 = load(taps + 2 * channels + c),
                 w3 = load(taps + 3 * channels + c);
    Floats x0 = load(tail + c), x1 = load(tail + channels + c), x2 = load(tail + 2 * channels + c);
    for (int64_t t = 0; t < n; ++t) {
      const Floats x3 = load(x + t * row_stride + c);
      store(out + t * 128 + c, silu(fma(w3, x3, fma(w2, x2, fma(w1, x1, mul(w0, x0))))));
      x0 = x1;
      x1 = x2;
      x2 = x3;
    }
    store(tail + c, x0);
    store(tail + channels + c, x1);
    store(tail + 2 * channels + c, x2);
  }
}

inline void l2_normalise(float* x, float scale) {
  const Floats factor = splat(scale / __builtin_sqrtf(sum_of_squares(x, 128) + 1e-6f));
  for (int i = 0; i < 128; i += 16) store(x + i, mul(load(x + i), factor));
}

inline float dot128(const float* a, const float* b) {
  Floats total = zero();
  for (int i = 0; i < 128; i += 16) total = fma(load(a + i), load(b + i), total);
  return sum(total);
}

constexpr int kTile = 2;  // vectors of value columns per tile

inline void delta_tile(float* state, int64_t n, DeltaBuffers& b, int column) {
  Floats decay = zero(), d[kTile];
  const float* last_k = nullptr;
  for (int64_t t = 0; t < n; ++t) {
    Floats ka[kTile][4], qa[kTile][4];
    for (int v = 0; v < kTile; ++v)
      for (int i = 0; i < 4; ++i) ka[v][i] = qa[v][i] = zero();
    for (int key = 0; key < 128; key += 4) {
      for (int i = 0; i < 4; ++i) {
        const Floats kk = splat(b.k[t][key + i]), qq = splat(b.q[t][key + i]);
        for (int v = 0; v < kTile; ++v) {
          float* s = state + (key + i) * 128 + column + 16 * v;
          Floats value = load(s);
          if (last_k) {
            value = fma(splat(last_k[key + i]), d[v], mul(decay, value));
            store(s, value);
          }
          ka[v][i] = fma(value, kk, ka[v][i]);
          qa[v][i] = fma(value, qq, qa[v][i]);
        }
      }
    }
    decay = splat(b.decay[t]);
    last_k = b.k[t];
    for (int v = 0; v < kTile; ++v) {
      const int at = column + 16 * v;
      const Floats sk = add(add(ka[v][0], ka[v][1]), add(ka[v][2], ka[v][3]));
      const Floats sq = add(add(qa[v][0], qa[v][1]), add(qa[v][2], qa[v][3]));
      d[v] = mul(splat(b.strength[t]), fma(sub(zero(), decay), sk, load(b.v[t] + at)));
      store(b.o[t] + at, fma(d[v], splat(b.kq[t]), mul(decay, sq)));
    }
  }
  for (int key = 0; key < 128; ++key)
    for (int v = 0; v < kTile; ++v) {
      float* s = state + key * 128 + column + 16 * v;
      store(s, fma(splat(last_k[key]), d[v], mul(decay, load(s))));
    }
}

inline void gates(const DeltaTask& task, int64_t first, int64_t n, int head, DeltaBuffers& b) {
  float alpha[kChunk] = {}, beta[kChunk] = {};
  for (int64_t t = 0; t < n; ++t) {
    alpha[t] = task.alpha[(first + t) * task.value_heads + head] + task.dt_bias[head];
    beta[t] = task.beta[(first + t) * task.value_heads + head];
  }
  for (int t = 0; t < kChunk; t += 16) {
    store(b.decay + t, exp(mul(splat(task.a[head]), softplus(load(alpha + t)))));
    store(b.strength + t, sigmoid(load(beta + t)));
  }
}

void delta(const DeltaTask& task) {
  static_assert(kChunk % 16 == 0);
  const int64_t key_width = static_cast<int64_t>(task.key_heads) * 128;
  const int64_t value_width = static_cast<int64_t>(task.value_heads) * 128;
  const int64_t channels = 2 * key_width + value_width;
  DeltaBuffers b;
  for (int64_t first = 0; first < task.num_tokens; first += kChunk) {
    const int64_t n = least<int64_t>(kChunk, task.num_tokens - first);
    const float* rows = task.qkv + first * channels;
    const auto convolve = [&](int64_t channel, float* out) {
      conv_silu(rows + channel, channels, n, task.conv + channel, channels, task.tail + channel, 128, out);
    };
    convolve(task.key_head * 128, b.q[0]);
    convolve(key_width + task.key_head * 128, b.k[0]);
    for (int64_t t = 0; t < n; ++t) {
      l2_normalise(b.q[t], 0.08838834764831845f);  // 128^-0.5
      l2_normalise(b.k[t], 1.0f);
      b.kq[t] = dot128(b.k[t], b.q[t]);
    }
    for (int head = task.key_head; head < task.value_heads; head += task.key_heads) {
      convolve(2 * key_width + head * 128, b.v[0]);
      gates(task, first, n, head, b);
      float* state = task.state + static_cast<int64_t>(head) * 128 * 128;
      for (int column = 0; column < 128; column += 16 * kTile) delta_tile(state, n, b, column);
      for (int64_t t = 0; t < n; ++t) {
        const float scale = 1.0f / __builtin_sqrtf(sum_of_squares(b.o[t], 128) / 128.0f + task.eps);
        const int64_t at = (first + t) * value_width + head * 128;
        for (int i = 0; i < 128; i += 16) {
          const Floats normed = mul(mul(load(b.o[t] + i), splat(scale)), load(task.norm + i));
          store(task.out + at + i, mul(normed, silu(load(task.z + at + i))));
        }
      }
    }
  }
}
