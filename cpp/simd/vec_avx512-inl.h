// Sixteen lanes in one 512-bit register, with or without VNNI. See vec_plain-inl.h for what each function means.

// The tile of products that fits the registers: panels and columns.
constexpr int kTilePanels = 2, kTileColumns = 4;

struct Floats {
  __m512 v;
};
struct Ints {
  __m512i v;
};
struct Codes {
  __m512i v;
};

inline Floats zero() { return {_mm512_setzero_ps()}; }
inline Floats splat(float x) { return {_mm512_set1_ps(x)}; }
inline Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, Floats a) { _mm512_storeu_ps(p, a.v); }
inline Floats add(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Floats sub(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Floats mul(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Floats div(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Floats fma(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Floats max(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Floats min(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Floats abs(Floats a) { return {_mm512_abs_ps(a.v)}; }
inline Floats round_even(Floats a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Floats zero_below(Floats value, Floats x, float bound) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, _mm512_set1_ps(bound), _CMP_NLT_UQ), value.v)};
}
inline Floats keep_first(Floats a, int n, float other) {
  return {_mm512_mask_mov_ps(_mm512_set1_ps(other), static_cast<__mmask16>((1u << n) - 1), a.v)};
}
inline Floats scale2(Floats a, Floats n) {
  const __m512i bits = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127)), 23);
  return {_mm512_mul_ps(a.v, _mm512_castsi512_ps(bits))};
}
inline float sum(Floats a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float largest(Floats a) { return _mm512_reduce_max_ps(a.v); }

inline float half_to_float(uint16_t h) { return _cvtsh_ss(h); }
inline Floats load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void store_half(uint16_t* p, Floats a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Floats load_bfloat(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
inline __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Floats from_u8(__m128i b) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b))}; }
inline Floats load_u8(const uint8_t* p) { return from_u8(load16(p)); }
inline Floats load_low_nibbles(const uint8_t* p) { return from_u8(_mm_and_si128(load16(p), _mm_set1_epi8(15))); }
inline Floats load_high_nibbles(const uint8_t* p) {
  return from_u8(_mm_and_si128(_mm_srli_epi16(load16(p), 4), _mm_set1_epi8(15)));
}
inline Floats load_i8(const uint8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(p)))}; }
inline Floats load_e8m0_half(const uint8_t* p) {
  const __m512i e = _mm512_cvtepu8_epi32(load16(p));
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23);
  const __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  return {_mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmp_epi32_mask(e, one, _MM_CMPINT_LE), tiny))};
}

inline Ints splat_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Ints add(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Floats as_floats(Ints a) { return {_mm512_castsi512_ps(a.v)}; }
inline Floats to_floats(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline void store_i8(int8_t* p, Floats rounded) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(rounded.v)));
}

inline Codes load_codes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_codes(uint8_t* p, Codes c) { _mm512_storeu_si512(p, c.v); }
inline Codes low_bits(Codes c, int mask) { return {_mm512_and_si512(c.v, _mm512_set1_epi8(static_cast<char>(mask)))}; }
template <int N>
inline Codes shift_right(Codes c) {
  return {_mm512_srli_epi16(c.v, N)};
}
template <int N>
inline Codes shift_left(Codes c) {
  return {_mm512_slli_epi16(c.v, N)};
}
inline Codes either(Codes a, Codes b) { return {_mm512_or_si512(a.v, b.v)}; }
inline Codes add_bits(Codes c, Codes bits, int mask) {
  return {_mm512_ternarylogic_epi32(c.v, bits.v, _mm512_set1_epi8(static_cast<char>(mask)), 0xf8)};  // c | bits & mask
}
inline Codes lookup(const uint8_t* table16, Codes c) {
  const __m512i table = _mm512_broadcast_i32x4(load16(table16));
  return {_mm512_shuffle_epi8(table, c.v)};
}
#ifdef __AVX512VNNI__
inline Ints dot4(Ints acc, Codes w, int32_t four_inputs) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(four_inputs))};
}
// Codes of wide formats hold value + 128, and the dot's start takes the offset back.
constexpr bool kWideOffset = true;
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) { return dot4(acc, w, four_inputs); }
#else
// Codes up to 63 times inputs up to 127, two at a time, stay below 2^15: the 16-bit step cannot saturate.
inline Ints dot4_pairs(Ints acc, __m512i w, __m512i x) {
  return {_mm512_add_epi32(acc.v, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)))};
}
inline Ints dot4(Ints acc, Codes w, int32_t four_inputs) {
  return dot4_pairs(acc, w.v, _mm512_set1_epi32(four_inputs));
}
// Codes of wide formats hold value + 128 and would saturate; |value| <= 128 with the sign moved to the input does not.
constexpr bool kWideOffset = false;
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) {
  const __m512i x = _mm512_set1_epi32(four_inputs);
  const __m512i value = _mm512_xor_si512(w.v, _mm512_set1_epi8(static_cast<char>(0x80)));
  const __m512i signed_inputs = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(value), _mm512_setzero_si512(), x);
  return dot4_pairs(acc, _mm512_abs_epi8(value), signed_inputs);
}
#endif
