// Exponential, sigmoid, softplus and the row operations built on them: add, multiply, fused multiply-add and divide
// only, so every instruction set gives the same bits. Largest errors over all floats, in units of the last place,
// are measured in tests/ops.

// Not the library's: an inline library function compiled here might be the copy the linker keeps for all.
template <class T>
inline T least(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T greatest(T a, T b) {
  return a < b ? b : a;
}

constexpr int64_t kAhead = 2048;  // bytes between what is read and what is fetched meanwhile

inline void prefetch(const uint8_t* p, int bytes) {
#if defined(__GNUC__)
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
#endif
}

// e^x. Argument reduction to |r| <= ln(2)/2 and a polynomial of degree 6 (coefficients of the Cephes library).
// Zero below -87.
inline Floats exp(Floats x) {
  const Floats clamped = max(min(x, splat(88.0f)), splat(-87.0f));
  const Floats n = round_even(mul(clamped, splat(1.44269504f)));
  Floats r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  Floats p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), splat(1.0f));
  return zero_below(scale2(p, n), x, -87.0f);
}

inline Floats sigmoid(Floats x) { return div(splat(1.0f), add(splat(1.0f), exp(sub(zero(), x)))); }
inline Floats silu(Floats x) { return mul(x, sigmoid(x)); }

// log(1 + u) for 0 <= u <= 1, through atanh: s = u / (2 + u), log(1 + u) = 2 (s + s^3/3 + s^5/5 + ...).
inline Floats log1p_unit(Floats u) {
  const Floats s = div(u, add(splat(2.0f), u)), s2 = mul(s, s);
  Floats p = splat(1.0f / 15);
  p = fma(p, s2, splat(1.0f / 13));
  p = fma(p, s2, splat(1.0f / 11));
  p = fma(p, s2, splat(1.0f / 9));
  p = fma(p, s2, splat(1.0f / 7));
  p = fma(p, s2, splat(1.0f / 5));
  p = fma(p, s2, splat(1.0f / 3));
  p = mul(p, s2);
  return mul(splat(2.0f), fma(p, s, s));
}

inline Floats softplus(Floats x) { return add(max(x, zero()), log1p_unit(exp(sub(zero(), abs(x))))); }

inline float sum_of_squares(const float* x, int64_t n) {
  Floats total = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const Floats v = load(x + i);
    total = fma(v, v, total);
  }
  return sum(total);
}

// Rows whose width is not a multiple of 16 are handled through a zero-padded last vector.
inline Floats load_part(const float* p, int n) {
  float padded[16] = {};
  std::memcpy(padded, p, static_cast<size_t>(n) * sizeof(float));
  return load(padded);
}
inline void store_part(float* p, Floats a, int n) {
  float padded[16];
  store(padded, a);
  std::memcpy(p, padded, static_cast<size_t>(n) * sizeof(float));
}
template <class F>
inline void map(int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) f(i, 16);
  if (i < n) f(i, static_cast<int>(n - i));
}
inline Floats load_some(const float* p, int n) { return n == 16 ? load(p) : load_part(p, n); }
inline void store_some(float* p, Floats a, int n) { n == 16 ? store(p, a) : store_part(p, a, n); }

void rms_norm(const float* x, const float* weight, float* y, int64_t width, float eps) {
  Floats total = zero();
  map(width, [&](int64_t i, int n) {
    const Floats v = load_some(x + i, n);
    total = fma(v, v, total);
  });
  const float scale = 1.0f / __builtin_sqrtf(sum(total) / static_cast<float>(width) + eps);
  map(width, [&](int64_t i, int n) {
    store_some(y + i, mul(mul(load_some(x + i, n), splat(scale)), load_some(weight + i, n)), n);
  });
}

void silu_mul(const float* gate, const float* up, float* y, int64_t count) {
  map(count, [&](int64_t i, int n) { store_some(y + i, mul(silu(load_some(gate + i, n)), load_some(up + i, n)), n); });
}

void sigmoid_mul(const float* gate, float* y, int64_t count) {
  map(count,
      [&](int64_t i, int n) { store_some(y + i, mul(sigmoid(load_some(gate + i, n)), load_some(y + i, n)), n); });
}

inline float row_largest(const float* x, int64_t count) {
  Floats top = splat(-INFINITY);
  map(count, [&](int64_t i, int n) { top = max(keep_first(load_some(x + i, n), n, -INFINITY), top); });
  return largest(top);
}

void softmax(float* x, int64_t count) {
  const Floats top = splat(row_largest(x, count));
  Floats total = zero();
  map(count, [&](int64_t i, int n) {
    const Floats e = keep_first(exp(sub(load_some(x + i, n), top)), n, 0.0f);
    store_some(x + i, e, n);
    total = add(total, e);
  });
  const Floats scale = splat(1.0f / sum(total));
  map(count, [&](int64_t i, int n) { store_some(x + i, mul(load_some(x + i, n), scale), n); });
}

// Natural logarithm of a normal positive number: x = 2^k m with m in [0.71, 1.42), s = f / (2 + f) for f = m - 1, and
// fdlibm's polynomial; error below one unit of the last place. The library's differs between platforms.
inline double natural_log(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint64_t shifted = bits + 0x3ff0000000000000 - 0x3fe6a09e667f3bcd;  // less the bits of sqrt(1/2)
  const double k = static_cast<double>(static_cast<int64_t>(shifted >> 52) - 1023);
  bits = (shifted & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd;
  double m;
  std::memcpy(&m, &bits, sizeof m);
  const double f = m - 1.0, s = f / (2.0 + f), z = s * s, half = 0.5 * f * f;
  const double p = z * (6.666666666666735130e-01 +
                        z * (3.999999999940941908e-01 +
                             z * (2.857142874366239149e-01 +
                                  z * (2.222219843214978396e-01 +
                                       z * (1.818357216161805012e-01 +
                                            z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01))))));
  return k * 6.93147180369123816490e-01 - (half - (s * (half + p) + k * 1.90821492927058770002e-10) - f);
}

// Sums of 1024 in float, then in double: a row of 248,320 keeps its digits.
float log_sum_exp(const float* x, int64_t count) {
  const float top = row_largest(x, count);
  double total = 0;
  for (int64_t start = 0; start < count; start += 1024) {
    Floats part = zero();
    map(least<int64_t>(1024, count - start), [&](int64_t i, int n) {
      part = add(part, keep_first(exp(sub(load_some(x + start + i, n), splat(top))), n, 0.0f));
    });
    total += static_cast<double>(sum(part));
  }
  return static_cast<float>(static_cast<double>(top) + natural_log(total));
}
