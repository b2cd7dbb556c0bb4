// float16 in plain C++, rounded half to even. Static, for files compiled for several instruction sets include this: an
// inline function might be kept in the form that only one of them can run.
#pragma once

#include <cstdint>
#include <cstring>

namespace loqal {

static inline float float16_value(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint16_t to_float16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (size >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // rounds beyond 65504
  if (size < 0x38800000) {  // subnormal: the sum's rounding is the rounding to multiples of 2^-24
    float x;
    std::memcpy(&x, &size, sizeof x);
    x += 0.5f;
    uint32_t raised;
    std::memcpy(&raised, &x, sizeof raised);
    return static_cast<uint16_t>(sign | (raised - 0x3f000000));
  }
  const uint32_t rounded = size + 0xfff + (size >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

}  // namespace loqal
