// Sixteen lanes in four 128-bit registers, with the dot products of ARMv8.2, with or without those of mixed sign. See
// vec_plain-inl.h for what each function means.

// The tile of products that fits the registers: panels and columns.
constexpr int kTilePanels = 1, kTileColumns = 3;

struct Floats {
  float32x4_t v[4];
};
struct Ints {
  int32x4_t v[4];
};
struct Codes {
  uint8x16_t v[4];
};

template <class F>
inline Floats float_parts(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}
template <class F>
inline Ints int_parts(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}
template <class F>
inline Codes code_parts(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}

inline Floats splat(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {{v, v, v, v}};
}
inline Floats zero() { return splat(0.0f); }
inline Floats load(const float* p) {
  return float_parts([&](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float* p, Floats a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
inline Floats add(Floats a, Floats b) {
  return float_parts([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
inline Floats sub(Floats a, Floats b) {
  return float_parts([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
inline Floats mul(Floats a, Floats b) {
  return float_parts([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
inline Floats div(Floats a, Floats b) {
  return float_parts([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return float_parts([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
// By comparison: the instructions for it differ from those of x86 in NaN and in the sign of zero.
inline Floats max(Floats a, Floats b) {
  return float_parts([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline Floats min(Floats a, Floats b) {
  return float_parts([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline Floats abs(Floats a) {
  return float_parts([&](int i) { return vabsq_f32(a.v[i]); });
}
inline Floats round_even(Floats a) {
  return float_parts([&](int i) { return vrndnq_f32(a.v[i]); });
}
inline Floats zero_below(Floats value, Floats x, float bound) {
  return float_parts([&](int i) {
    const uint32x4_t below = vcltq_f32(x.v[i], vdupq_n_f32(bound));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value.v[i]), below));
  });
}
inline Floats keep_first(Floats a, int n, float other) {
  alignas(16) static constexpr int32_t kLanes[4] = {0, 1, 2, 3};
  const int32x4_t lanes = vld1q_s32(kLanes);
  return float_parts(
      [&](int i) { return vbslq_f32(vcltq_s32(lanes, vdupq_n_s32(n - 4 * i)), a.v[i], vdupq_n_f32(other)); });
}
inline Floats scale2(Floats a, Floats n) {
  return float_parts([&](int i) {
    const int32x4_t bits = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.v[i]), vdupq_n_s32(127)), 23);
    return vmulq_f32(a.v[i], vreinterpretq_f32_s32(bits));
  });
}
inline float sum(Floats a) {
  const float32x4_t quarter = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t pair = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));
  return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}
inline float largest(Floats a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[2]), vmaxq_f32(a.v[1], a.v[3]))); }

inline float half_to_float(uint16_t h) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0); }
inline Floats load_half(const uint16_t* p) {
  return float_parts([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
inline void store_half(uint16_t* p, Floats a) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
}
inline Floats load_bfloat(const uint16_t* p) {
  return float_parts([&](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p + 4 * i)), 16)); });
}
struct Words {
  uint32x4_t v[4];
};
inline Words widen(uint8x16_t b) {
  const uint16x8_t lo = vmovl_u8(vget_low_u8(b)), hi = vmovl_u8(vget_high_u8(b));
  return {{vmovl_u16(vget_low_u16(lo)), vmovl_u16(vget_high_u16(lo)), vmovl_u16(vget_low_u16(hi)),
           vmovl_u16(vget_high_u16(hi))}};
}
inline Floats from_u8(uint8x16_t b) {
  const Words w = widen(b);
  return float_parts([&](int i) { return vcvtq_f32_u32(w.v[i]); });
}
inline Floats load_u8(const uint8_t* p) { return from_u8(vld1q_u8(p)); }
inline Floats load_low_nibbles(const uint8_t* p) { return from_u8(vandq_u8(vld1q_u8(p), vdupq_n_u8(15))); }
inline Floats load_high_nibbles(const uint8_t* p) { return from_u8(vshrq_n_u8(vld1q_u8(p), 4)); }
inline Floats load_i8(const uint8_t* p) {
  const int8x16_t b = vreinterpretq_s8_u8(vld1q_u8(p));
  const int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_s8(vget_high_s8(b));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))}};
}
inline Floats load_e8m0_half(const uint8_t* p) {
  const Words e = widen(vld1q_u8(p));
  return float_parts([&](int i) {
    const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e.v[i], vdupq_n_u32(1)), 23);
    const uint32x4_t tiny = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e.v[i]));
    return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e.v[i], vdupq_n_u32(2)), tiny, normal));
  });
}

inline Ints splat_int(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {{v, v, v, v}};
}
inline Ints add(Ints a, Ints b) {
  return int_parts([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
}
inline Floats as_floats(Ints a) {
  return float_parts([&](int i) { return vreinterpretq_f32_s32(a.v[i]); });
}
inline Floats to_floats(Ints a) {
  return float_parts([&](int i) { return vcvtq_f32_s32(a.v[i]); });
}
inline void store_i8(int8_t* p, Floats rounded) {
  const auto narrow = [&](int i) { return vmovn_s32(vcvtq_s32_f32(rounded.v[i])); };
  const int16x8_t lo = vcombine_s16(narrow(0), narrow(1)), hi = vcombine_s16(narrow(2), narrow(3));
  vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

inline Codes load_codes(const uint8_t* p) {
  return code_parts([&](int i) { return vld1q_u8(p + 16 * i); });
}
inline void store_codes(uint8_t* p, Codes c) {
  for (int i = 0; i < 4; ++i) vst1q_u8(p + 16 * i, c.v[i]);
}
inline Codes low_bits(Codes c, int mask) {
  return code_parts([&](int i) { return vandq_u8(c.v[i], vdupq_n_u8(static_cast<uint8_t>(mask))); });
}
template <int N>
inline Codes shift_right(Codes c) {
  return code_parts([&](int i) { return vshrq_n_u8(c.v[i], N); });
}
template <int N>
inline Codes shift_left(Codes c) {
  return code_parts([&](int i) { return vshlq_n_u8(c.v[i], N); });
}
inline Codes either(Codes a, Codes b) {
  return code_parts([&](int i) { return vorrq_u8(a.v[i], b.v[i]); });
}
inline Codes add_bits(Codes c, Codes bits, int mask) { return either(c, low_bits(bits, mask)); }
inline Codes lookup(const uint8_t* table16, Codes c) {
  const uint8x16_t table = vld1q_u8(table16);
  return code_parts([&](int i) { return vqtbl1q_u8(table, c.v[i]); });
}
// Codes below 128 are the same signed and unsigned.
inline Ints dot4(Ints acc, Codes w, int32_t four_inputs) {
  const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four_inputs));
  return int_parts([&](int i) { return vdotq_s32(acc.v[i], vreinterpretq_s8_u8(w.v[i]), x); });
}
#ifdef __ARM_FEATURE_MATMUL_INT8
// Codes of wide formats hold value + 128, and the dot's start takes the offset back.
constexpr bool kWideOffset = true;
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) {
  const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four_inputs));
  return int_parts([&](int i) { return vusdotq_s32(acc.v[i], w.v[i], x); });
}
#else
// Codes of wide formats hold value + 128: with the highest bit flipped they are the values.
constexpr bool kWideOffset = false;
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) {
  return dot4(acc, code_parts([&](int i) { return veorq_u8(w.v[i], vdupq_n_u8(0x80)); }), four_inputs);
}
#endif
