// Gated DeltaNet between its projections, for one key head and the value heads that read it.
//
// The recurrence of a value head, token by token, with the state S [key value] as a matrix: the gated delta rule of
// "Gated Delta Networks: Improving Mamba2 with Delta Rule" (arXiv 2412.06464), transposed, and not its chunked form:
//   S_t = decay_t (I - strength_t k_t k_t^T) S_{t-1} + strength_t k_t v_t^T
//   o_t = S_t^T q_t
// with q_t and k_t of length 1, q_t then divided by the root of their width, decay_t = exp(a softplus(alpha_t +
// dt_bias)), a < 0, and strength_t = sigmoid(beta_t). Rearranged, a token needs one pass over S: with the sums
//   sk = S_{t-1}^T k_t,  sq = S_{t-1}^T q_t
// over the old state,
//   d_t = strength_t (v_t - decay_t sk),  S_t = decay_t S_{t-1} + k_t d_t^T,  o_t = decay_t sq + d_t (k_t^T q_t).
//
// Tokens are taken in order, in chunks of at most kChunk, so that one pass over a tile of the state serves a whole
// chunk. The state has value columns in lanes, so no sum runs across lanes; it lies [tile key kStateTile], each tile in
// one piece, so that memory is read in order. sk and sq are four interleaved sums over the keys. The update of one
// token and the sums of the next share a sweep; the values stored in between are the same, so chunks change no bit.
//
// A run that defers leaves tail and state as they are, works on a copy of the tile in the first-level cache, and writes
// k, d, decay and the inputs of the convolution to its journal. The next run applies as many of these rows as were
// accepted, tile by tile, before its own: one read and one write of the state, however many tokens were tried.

constexpr float kL2NormEps = 1e-6f;                       // beside the sum of squares of a key or query
constexpr float kDeltaQueryScale = 0.08838834764831845f;  // kDeltaHeadDim^-0.5
static_assert(kDeltaHeadDim == 128);
constexpr int kTile = kStateTile / 16;  // vectors of value columns in a tile

struct DeltaBuffers {
  alignas(64) float q[kChunk][kDeltaHeadDim], k[kChunk][kDeltaHeadDim], v[kChunk][kDeltaHeadDim],
      o[kChunk][kDeltaHeadDim];
  alignas(64) float kq[kChunk], decay[kChunk], strength[kChunk];
  alignas(64) float tile[kDeltaHeadDim * kStateTile], tail[kConvTail * kDeltaHeadDim];
};

// Convolution of width kConvWidth and silu over the channels of one head; the tail keeps the last inputs.
inline void conv_silu(const float* x, int64_t row_stride, int64_t n, const float* taps, int64_t channels, float* tail,
                      int64_t tail_stride, float* out) {
  static_assert(kConvWidth == 4);
  for (int c = 0; c < kDeltaHeadDim; c += 16) {
    const Floats w0 = load(taps + c), w1 = load(taps + channels + c), w2 = load(taps + 2 * channels + c),
                 w3 = load(taps + 3 * channels + c);
    Floats x0 = load(tail + c), x1 = load(tail + tail_stride + c), x2 = load(tail + 2 * tail_stride + c);
    for (int64_t t = 0; t < n; ++t) {
      const Floats x3 = load(x + t * row_stride + c);
      store(out + t * kDeltaHeadDim + c, silu(fma(w3, x3, fma(w2, x2, fma(w1, x1, mul(w0, x0))))));
      x0 = x1;
      x1 = x2;
      x2 = x3;
    }
    store(tail + c, x0);
    store(tail + tail_stride + c, x1);
    store(tail + 2 * tail_stride + c, x2);
  }
}

// Moves the tail of one head's channels on by n inputs.
inline void shift_tail(float* tail, int64_t channels, const float* inputs, int64_t row_stride, int64_t n) {
  for (int64_t tap = 0; tap < kConvTail; ++tap) {
    const int64_t from = tap + n;
    const float* source = from < kConvTail ? tail + from * channels : inputs + (from - kConvTail) * row_stride;
    for (int c = 0; c < kDeltaHeadDim; c += 16) store(tail + tap * channels + c, load(source + c));
  }
}

inline void l2_normalize(float* x, float scale) {
  const Floats factor = splat(scale / __builtin_sqrtf(sum_of_squares(x, kDeltaHeadDim) + kL2NormEps));
  for (int i = 0; i < kDeltaHeadDim; i += 16) store(x + i, mul(load(x + i), factor));
}

inline float dot_head(const float* a, const float* b) {
  Floats total = zero();
  for (int i = 0; i < kDeltaHeadDim; i += 16) total = fma(load(a + i), load(b + i), total);
  return sum(total);
}

// States come from memory at every step, for there are more of them than a cache holds: a tile is fetched while the
// one before it is worked on.
inline void prefetch_tile(const float* tile, int first_key, int keys) {
  prefetch(reinterpret_cast<const uint8_t*>(tile + first_key * kStateTile), 4 * kStateTile * keys);
}

// Applies journal rows to a tile: `keys` of this key head, `deltas` of these columns, `decays` of this value head.
inline void settle_tile(float* state, int64_t n, const float* keys, const float* deltas, const float* decays,
                        int64_t row_stride) {
  for (int key = 0; key < kDeltaHeadDim; ++key)
    for (int v = 0; v < kTile; ++v) {
      float* s = state + key * kStateTile + 16 * v;
      Floats value = load(s);
      for (int64_t t = 0; t < n; ++t) {
        const int64_t row = t * row_stride;
        value = fma(splat(keys[row + key]), load(deltas + row + 16 * v), mul(splat(decays[row]), value));
      }
      store(s, value);
    }
}

// Runs n tokens over a tile. The last update is stored only when `commits`; what every
// token adds along its key goes to `deltas` when that is given.
// The tile at `next`, if there is one, is fetched meanwhile.
inline void delta_tile(float* state, int64_t n, DeltaBuffers& b, int column, bool commits, float* deltas,
                       int64_t row_stride, const float* next) {
  Floats decay = zero(), d[kTile];
  const float* last_k = nullptr;
  for (int64_t t = 0; t < n; ++t) {
    Floats ka[kTile][4], qa[kTile][4];
    for (int v = 0; v < kTile; ++v)
      for (int i = 0; i < 4; ++i) ka[v][i] = qa[v][i] = zero();
    for (int key = 0; key < kDeltaHeadDim; key += 4) {
      if (t == 0 && next) prefetch_tile(next, key, 4);
      for (int i = 0; i < 4; ++i) {
        const Floats kk = splat(b.k[t][key + i]), qq = splat(b.q[t][key + i]);
        for (int v = 0; v < kTile; ++v) {
          float* s = state + (key + i) * kStateTile + 16 * v;
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
      if (deltas) store(deltas + t * row_stride + 16 * v, d[v]);
    }
  }
  if (!commits) return;
  for (int key = 0; key < kDeltaHeadDim; ++key)
    for (int v = 0; v < kTile; ++v) {
      float* s = state + key * kStateTile + 16 * v;
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

// One tile of one value head: what is pending, then the run.
inline void delta_head_tile(const DeltaTask& task, const JournalRow& row, int head, int64_t n, DeltaBuffers& b,
                            int column) {
  float* state = task.state + (static_cast<int64_t>(head) * kDeltaHeadDim + column) * kDeltaHeadDim;
  const float* next = state + kDeltaHeadDim * kStateTile;
  if (column + kStateTile == kDeltaHeadDim) {
    const int next_head = head + task.key_heads;
    next = next_head < task.value_heads ? task.state + static_cast<int64_t>(next_head) * kDeltaHeadDim * kDeltaHeadDim
                                        : task.next_state;
  }
  const int64_t at = row.deltas() + head * kDeltaHeadDim + column;
  if (task.pending)
    settle_tile(state, task.pending, task.journal + row.keys() + task.key_head * kDeltaHeadDim, task.journal + at,
                task.journal + row.decays() + head, row.floats());
  if (!task.defers) {
    if (n) delta_tile(state, n, b, column, true, nullptr, 0, next);
    return;
  }
  if (n > 1) {  // later tokens need the state after earlier ones, which is not to be kept
    for (int key = 0; key < kDeltaHeadDim; ++key)
      for (int at = key * kStateTile; at < (key + 1) * kStateTile; at += 16) store(b.tile + at, load(state + at));
    state = b.tile;
  }
  delta_tile(state, n, b, column, false, task.journal + at, row.floats(), next);
}

// Keys, decays and inputs of a deferred run, where its journal expects them. `channel` and `width` say which inputs.
inline void record_inputs(const DeltaTask& task, const JournalRow& row, int64_t channel, const float* rows) {
  for (int64_t t = 0; t < task.num_tokens; ++t)
    for (int c = 0; c < kDeltaHeadDim; c += 16)
      store(task.journal + t * row.floats() + channel + c, load(rows + t * row.channels + channel + c));
}

void delta(const DeltaTask& task) {
  static_assert(kChunk % 16 == 0 && kJournalRows <= kChunk);
  const JournalRow row(task.key_heads, task.value_heads);
  const int64_t key_width = row.key_width, value_width = row.value_width, channels = row.channels;
  DeltaTask run = task;  // its pending rows are applied in the first chunk
  DeltaBuffers b;
  for (int64_t first = 0; first == 0 || first < task.num_tokens; first += kChunk) {
    const int64_t n = least<int64_t>(kChunk, task.num_tokens - first);
    const float* rows = task.qkv + first * channels;
    const auto convolve = [&](int64_t channel, float* out) {
      float *tail = task.tail + channel, *journal = task.journal + channel;
      if (run.pending) shift_tail(tail, channels, journal, row.floats(), run.pending);
      if (!task.defers)
        return conv_silu(rows + channel, channels, n, task.conv + channel, channels, tail, channels, out);
      for (int tap = 0; tap < kConvTail; ++tap)
        for (int c = 0; c < kDeltaHeadDim; c += 16)
          store(b.tail + tap * kDeltaHeadDim + c, load(tail + tap * channels + c));
      conv_silu(rows + channel, channels, n, task.conv + channel, channels, b.tail, kDeltaHeadDim, out);
      record_inputs(task, row, channel, rows);
    };
    convolve(task.key_head * kDeltaHeadDim, b.q[0]);
    convolve(key_width + task.key_head * kDeltaHeadDim, b.k[0]);
    for (int64_t t = 0; t < n; ++t) {
      l2_normalize(b.q[t], kDeltaQueryScale);
      l2_normalize(b.k[t], 1.0f);
      b.kq[t] = dot_head(b.k[t], b.q[t]);
    }
    for (int head = task.key_head; head < task.value_heads; head += task.key_heads) {
      convolve(2 * key_width + head * kDeltaHeadDim, b.v[0]);
      gates(task, first, n, head, b);
      for (int column = 0; column < kDeltaHeadDim; column += kStateTile) delta_head_tile(run, row, head, n, b, column);
      if (task.defers)
        for (int64_t t = 0; t < n; ++t) task.journal[t * row.floats() + row.decays() + head] = b.decay[t];
      for (int64_t t = 0; t < n; ++t) {
        const float scale =
            1.0f /
            __builtin_sqrtf(sum_of_squares(b.o[t], kDeltaHeadDim) / static_cast<float>(kDeltaHeadDim) + task.eps);
        const int64_t at = (first + t) * value_width + head * kDeltaHeadDim;
        for (int i = 0; i < kDeltaHeadDim; i += 16) {
          const Floats normed = mul(mul(load(b.o[t] + i), splat(scale)), load(task.norm + i));
          store(task.out + at + i, mul(normed, silu(load(task.z + at + i))));
        }
      }
    }
    if (task.defers)  // only now, since every value head needed the old keys
      for (int64_t t = 0; t < n; ++t)
        for (int c = 0; c < kDeltaHeadDim; c += 16)
          store(task.journal + t * row.floats() + row.keys() + task.key_head * kDeltaHeadDim + c, load(b.k[t] + c));
    run.pending = 0;
  }
}
