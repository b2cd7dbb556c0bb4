// Sixteen lanes in two 256-bit registers, with or without VNNI. See vec_plain-inl.h for what each function means.

// The tile of products that fits the registers: panels and columns.
constexpr int kTilePanels = 1, kTileColumns = 2;

struct Floats {
  __m256 lo, hi;
};
struct Ints {
  __m256i lo, hi;
};
struct Codes {
  __m256i lo, hi;
};

inline Floats zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Floats a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Floats sub(Floats a, Floats b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Floats mul(Floats a, Floats b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Floats div(Floats a, Floats b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Floats min(Floats a, Floats b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline Floats abs(Floats a) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(a.lo, mask), _mm256_and_ps(a.hi, mask)};
}
inline Floats round_even(Floats a) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, mode), _mm256_round_ps(a.hi, mode)};
}
inline Floats zero_below(Floats value, Floats x, float bound) {
  const __m256 b = _mm256_set1_ps(bound);
  return {_mm256_and_ps(_mm256_cmp_ps(x.lo, b, _CMP_NLT_UQ), value.lo),
          _mm256_and_ps(_mm256_cmp_ps(x.hi, b, _CMP_NLT_UQ), value.hi)};
}
inline Floats keep_first(Floats a, int n, float other) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 lo = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes));
  const __m256 hi = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lanes));
  const __m256 o = _mm256_set1_ps(other);
  return {_mm256_blendv_ps(o, a.lo, lo), _mm256_blendv_ps(o, a.hi, hi)};
}
inline __m256 power2(__m256 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline Floats scale2(Floats a, Floats n) {
  return {_mm256_mul_ps(a.lo, power2(n.lo)), _mm256_mul_ps(a.hi, power2(n.hi))};
}
inline float sum(Floats a) {
  const __m256 half = _mm256_add_ps(a.lo, a.hi);
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float largest(Floats a) {
  const __m256 half = _mm256_max_ps(a.lo, a.hi);
  const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

inline __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline float half_to_float(uint16_t h) { return _cvtsh_ss(h); }
inline Floats load_half(const uint16_t* p) { return {_mm256_cvtph_ps(load16(p)), _mm256_cvtph_ps(load16(p + 8))}; }
inline void store_half(uint16_t* p, Floats a) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, mode));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, mode));
}
inline Floats load_bfloat(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(p)), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(p + 8)), 16))};
}
inline Floats from_u8(__m128i b) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
}
inline Floats load_u8(const uint8_t* p) { return from_u8(load16(p)); }
inline Floats load_low_nibbles(const uint8_t* p) { return from_u8(_mm_and_si128(load16(p), _mm_set1_epi8(15))); }
inline Floats load_high_nibbles(const uint8_t* p) {
  return from_u8(_mm_and_si128(_mm_srli_epi16(load16(p), 4), _mm_set1_epi8(15)));
}
inline Floats load_i8(const uint8_t* p) {
  const __m128i b = load16(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
inline __m256 e8m0_half(__m256i e) {
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
  const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(tiny, normal, _mm256_cmpgt_epi32(e, one)));
}
inline Floats load_e8m0_half(const uint8_t* p) {
  const __m128i b = load16(p);
  return {e8m0_half(_mm256_cvtepu8_epi32(b)), e8m0_half(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
}

inline Ints splat_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints add(Ints a, Ints b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
inline Floats as_floats(Ints a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
inline Floats to_floats(Ints a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
inline void store_i8(int8_t* p, Floats rounded) {
  const __m256i words = _mm256_permute4x64_epi64(
      _mm256_packs_epi32(_mm256_cvtps_epi32(rounded.lo), _mm256_cvtps_epi32(rounded.hi)), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

inline __m256i load32(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Codes load_codes(const uint8_t* p) { return {load32(p), load32(p + 32)}; }
inline void store_codes(uint8_t* p, Codes c) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), c.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), c.hi);
}
inline Codes low_bits(Codes c, int mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(c.lo, m), _mm256_and_si256(c.hi, m)};
}
template <int N>
inline Codes shift_right(Codes c) {
  return {_mm256_srli_epi16(c.lo, N), _mm256_srli_epi16(c.hi, N)};
}
template <int N>
inline Codes shift_left(Codes c) {
  return {_mm256_slli_epi16(c.lo, N), _mm256_slli_epi16(c.hi, N)};
}
inline Codes either(Codes a, Codes b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
inline Codes add_bits(Codes c, Codes bits, int mask) { return either(c, low_bits(bits, mask)); }
inline Codes lookup(const uint8_t* table16, Codes c) {
  const __m256i table = _mm256_broadcastsi128_si256(load16(table16));
  return {_mm256_shuffle_epi8(table, c.lo), _mm256_shuffle_epi8(table, c.hi)};
}
#ifdef __AVXVNNI__
inline Ints dot4(Ints acc, Codes w, int32_t four_inputs) {
  const __m256i x = _mm256_set1_epi32(four_inputs);
  return {_mm256_dpbusd_avx_epi32(acc.lo, w.lo, x), _mm256_dpbusd_avx_epi32(acc.hi, w.hi, x)};
}
// Codes of wide formats hold value + 128, and the dot's start takes the offset back.
constexpr bool kWideOffset = true;
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) { return dot4(acc, w, four_inputs); }
#else
// Codes up to 63 times inputs up to 127, two at a time, stay below 2^15: the 16-bit step cannot saturate.
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
inline Ints dot4(Ints acc, Codes w, int32_t four_inputs) {
  const __m256i x = _mm256_set1_epi32(four_inputs);
  return {dot4_half(acc.lo, w.lo, x), dot4_half(acc.hi, w.hi, x)};
}
// Codes of wide formats hold value + 128 and would saturate; |value| <= 128 with the sign moved to the input does not.
constexpr bool kWideOffset = false;
inline __m256i dot4_signed(__m256i acc, __m256i w, __m256i x) {
  const __m256i value = _mm256_xor_si256(w, _mm256_set1_epi8(static_cast<char>(0x80)));
  return dot4_half(acc, _mm256_sign_epi8(value, value), _mm256_sign_epi8(x, value));
}
inline Ints dot4_wide(Ints acc, Codes w, int32_t four_inputs) {
  const __m256i x = _mm256_set1_epi32(four_inputs);
  return {dot4_signed(acc.lo, w.lo, x), dot4_signed(acc.hi, w.hi, x)};
}
#endif
