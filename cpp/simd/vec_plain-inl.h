// Sixteen lanes in plain C++. This is also the description of what the vector versions compute, bit for bit.

// The tile of products that fits the registers: panels and columns.
constexpr int kTilePanels = 1, kTileColumns = 2;

struct Floats {
  float v[16];
};
struct Ints {
  int32_t v[16];
};
struct Codes {
  uint8_t v[64];  // lane r holds bytes 4r .. 4r+3
};

template <class F>
inline Floats lanes(F f) {
  Floats out;
  for (int i = 0; i < 16; ++i) out.v[i] = f(i);
  return out;
}

inline Floats splat(float x) {
  return lanes([&](int) { return x; });
}
inline Floats zero() { return splat(0.0f); }
inline Floats load(const float* p) {
  return lanes([&](int i) { return p[i]; });
}
inline void store(float* p, Floats a) { std::memcpy(p, a.v, sizeof a.v); }
inline Floats add(Floats a, Floats b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
inline Floats sub(Floats a, Floats b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
inline Floats mul(Floats a, Floats b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
inline Floats div(Floats a, Floats b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
// One rounding: a * b + c.
inline Floats fma(Floats a, Floats b, Floats c) {
  return lanes([&](int i) { return std::fmaf(a.v[i], b.v[i], c.v[i]); });
}
// The second operand when either is NaN or both are zero, as the x86 instructions do.
inline Floats max(Floats a, Floats b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats min(Floats a, Floats b) {
  return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats abs(Floats a) {
  return lanes([&](int i) { return std::fabs(a.v[i]); });
}
inline Floats round_even(Floats a) {
  return lanes([&](int i) { return std::nearbyintf(a.v[i]); });
}
// Zero where x < bound, else value.
inline Floats zero_below(Floats value, Floats x, float bound) {
  return lanes([&](int i) { return x.v[i] < bound ? 0.0f : value.v[i]; });
}
// The first n lanes of a, `other` in the rest.
inline Floats keep_first(Floats a, int n, float other) {
  return lanes([&](int i) { return i < n ? a.v[i] : other; });
}
// a * 2^n for integral n in -126 .. 127.
inline Floats scale2(Floats a, Floats n) {
  return lanes([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.v[i]) + 127) << 23;
    return a.v[i] * std::bit_cast<float>(bits);
  });
}
// Lanes are added 8 apart, then 4, 2 and 1: the one tree of every reduction.
inline float sum(Floats a) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] + a.v[i + width];
  return a.v[0];
}
inline float largest(Floats a) {
  for (int i = 1; i < 16; ++i) a.v[0] = a.v[i] > a.v[0] ? a.v[i] : a.v[0];
  return a.v[0];
}

inline float half_to_float(uint16_t h) { return float16_value(h); }
inline Floats load_half(const uint16_t* p) {
  return lanes([&](int i) { return float16_value(p[i]); });
}
inline void store_half(uint16_t* p, Floats a) {
  for (int i = 0; i < 16; ++i) p[i] = to_float16(a.v[i]);
}
inline Floats load_bfloat(const uint16_t* p) {
  return lanes([&](int i) { return std::bit_cast<float>(static_cast<uint32_t>(p[i]) << 16); });
}
inline Floats load_u8(const uint8_t* p) {
  return lanes([&](int i) { return static_cast<float>(p[i]); });
}
inline Floats load_low_nibbles(const uint8_t* p) {
  return lanes([&](int i) { return static_cast<float>(p[i] & 15); });
}
inline Floats load_high_nibbles(const uint8_t* p) {
  return lanes([&](int i) { return static_cast<float>(p[i] >> 4); });
}
inline Floats load_i8(const uint8_t* p) {
  return lanes([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
}
// 2^(e - 128), the scale of MXFP4 with the halves of its value table taken in.
inline Floats load_e8m0_half(const uint8_t* p) {
  return lanes([&](int i) {
    const uint32_t e = p[i];
    return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  });
}

inline Ints splat_int(int32_t x) {
  Ints out;
  for (int i = 0; i < 16; ++i) out.v[i] = x;
  return out;
}
inline Ints add(Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
// The same bits, read as floats.
inline Floats as_floats(Ints a) {
  return lanes([&](int i) { return std::bit_cast<float>(a.v[i]); });
}
inline Floats to_floats(Ints a) {
  return lanes([&](int i) { return static_cast<float>(a.v[i]); });
}
inline void store_i8(int8_t* p, Floats rounded) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(rounded.v[i]);
}

template <class F>
inline Codes each(F f) {
  Codes out;
  for (int i = 0; i < 64; ++i) out.v[i] = static_cast<uint8_t>(f(i));
  return out;
}
inline Codes load_codes(const uint8_t* p) {
  return each([&](int i) { return p[i]; });
}
inline void store_codes(uint8_t* p, Codes c) { std::memcpy(p, c.v, sizeof c.v); }
inline Codes low_bits(Codes c, int mask) {
  return each([&](int i) { return c.v[i] & mask; });
}
// The vector versions shift 16-bit pairs, so bits cross into a neighbour: callers mask afterwards.
template <int N>
inline Codes shift_right(Codes c) {
  return each([&](int i) { return c.v[i] >> N; });
}
template <int N>
inline Codes shift_left(Codes c) {
  return each([&](int i) { return c.v[i] << N; });
}
inline Codes either(Codes a, Codes b) {
  return each([&](int i) { return a.v[i] | b.v[i]; });
}
// c with the bits under the mask added.
inline Codes add_bits(Codes c, Codes bits, int mask) { return either(c, low_bits(bits, mask)); }
inline Codes lookup(const uint8_t* table16, Codes c) {
  return each([&](int i) { return table16[c.v[i] & 15]; });
}
inline int8_t input(int32_t four_inputs, int i) { return static_cast<int8_t>(four_inputs >> (8 * i)); }
// Per lane: acc + the four codes times the four signed inputs.
inline Ints dot4(Ints acc, Codes w, int32_t four_inputs) {
  for (int r = 0; r < 16; ++r)
    for (int i = 0; i < 4; ++i) acc.v[r] += w.v[4 * r + i] * input(four_inputs, i);
  return acc;
}
// Codes of wide formats hold value + 128; the sum is over value times input. Where kWideOffset is set, the dot takes
// the code itself, and starts from the sum of the offsets.
constexpr bool kWideOffset = false;
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) {
  for (int r = 0; r < 16; ++r)
    for (int i = 0; i < 4; ++i) acc.v[r] += (w.v[4 * r + i] - 128) * input(four_inputs, i);
  return acc;
}
