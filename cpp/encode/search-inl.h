// The searches behind the encoders. Compiled once per instruction set, in the namespace LOQAL_ENCODE.
//
// A lane is a run: L consecutive values that share a scale. Nothing crosses lanes but the scale of a super-block, and
// only adds, multiplies and divides are used, never a fused one, so every instruction set finds the same scales.
namespace loqal {
namespace LOQAL_ENCODE {

constexpr int kLanes = 16;
typedef float V __attribute__((vector_size(4 * kLanes)));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));

inline V splat(float x) { return V{} + x; }
inline V lower(V a, V b) { return a < b ? a : b; }
inline V upper(V a, V b) { return a > b ? a : b; }
inline V size_of(V a) { return a < 0 ? -a : a; }
inline V clamp(V x, V lo, V hi) { return upper(lo, lower(hi, x)); }
// Half to even, for sizes below 2^22.
inline V nearest(V x) { return (x + 12582912.0f) - 12582912.0f; }
inline V floor_of(V x) {
  const V n = nearest(x);
  return n > x ? n - 1.0f : n;
}
inline V reciprocal(V x) { return size_of(x) >= 1.17549435e-38f ? 1.0f / x : splat(0); }

inline float as_half(float value) { return float16_value(to_float16(value)); }

// Sixteen runs of L values, and how much each squared error counts.
template <int L>
struct Runs {
  V x[L], w[L];
};

// Formats whose values are a scale times a level. A Levels rounds to the nearest level and says its code.
template <int kLow, int kHigh>
struct Whole {  // every whole number of a range; the code counts from its lowest
  static constexpr float kLowest = kLow, kHighest = kHigh;
  static V level(V x) { return nearest(clamp(x, splat(kLow), splat(kHigh))); }
  static V code(V level) { return level - static_cast<float>(kLow); }
};

struct Iq4 {
  static constexpr float kLowest = kIq4Levels[0], kHighest = kIq4Levels[15];
  static constexpr float value(int code) { return kIq4Levels[code]; }
  static constexpr float middle(int code) { return (value(code) + value(code + 1)) / 2; }  // to the next level
  static V level(V x) {
    V found = splat(value(0));
    for (int i = 0; i < 15; ++i) found = x > middle(i) ? splat(value(i + 1)) : found;
    return found;
  }
  static V code(V level) {
    V found = splat(0);
    for (int i = 0; i < 15; ++i) found += level > middle(i) ? splat(1) : splat(0);
    return found;
  }
};

// The scale s of least sum of w (s level - x)^2, the levels being the nearest to x / s: some anchors for the value of
// largest size, then codes and scale in turn while that helps.
template <class Levels, int L>
V best_scale(const Runs<L>& r, int anchors, float apart) {
  V extreme = splat(0), largest = splat(0);
  for (int l = 0; l < L; ++l) {
    const V size = size_of(r.x[l]);
    extreme = size > largest ? r.x[l] : extreme;
    largest = upper(largest, size);
  }
  const V unit = reciprocal(extreme);
  V best = splat(0), scale = splat(0);
  const auto attempt = [&](V factor) {
    V cross = splat(0), square = splat(0);
    for (int l = 0; l < L; ++l) {
      const V level = Levels::level(r.x[l] * factor), weighted = r.w[l] * level;
      cross += weighted * r.x[l];
      square += weighted * level;
    }
    const V fitted = cross * reciprocal(square), gain = cross * fitted;
    scale = gain > best ? fitted : scale;
    best = upper(best, gain);
  };
  for (int i = -anchors; i <= anchors; ++i) attempt(unit * (Levels::kLowest + apart * static_cast<float>(i)));
  // The other end has another reach, which suits some runs better.
  for (int i = -anchors; i <= anchors; i += 2) attempt(unit * (Levels::kHighest + apart * static_cast<float>(i)));
  for (int turn = 0; turn < 2; ++turn) attempt(reciprocal(scale));
  return scale;
}

template <class Levels, int L>
V scale_error(const Runs<L>& r, V step) {
  const V factor = reciprocal(step);
  V error = splat(0);
  for (int l = 0; l < L; ++l) {
    const V off = step * Levels::level(r.x[l] * factor) - r.x[l];
    error += r.w[l] * off * off;
  }
  return error;
}

// Scales s >= 0 and offsets m >= 0 that make s code - m close to x, code in 0 .. top.
struct Affine {
  V scale, offset;
};
template <int L>
Affine best_affine(const Runs<L>& r, int top, int anchors, float apart) {
  V lowest = splat(0), highest = splat(-1e38f), total = splat(0), sum_x = splat(0), sum_xx = splat(0);
  for (int l = 0; l < L; ++l) {
    lowest = lower(lowest, r.x[l]);
    highest = upper(highest, r.x[l]);
    const V weighted = r.w[l] * r.x[l];
    total += r.w[l];
    sum_x += weighted;
    sum_xx += weighted * r.x[l];
  }
  const V unit = reciprocal(highest - lowest), per_total = reciprocal(total);
  V best = sum_xx;
  Affine found{splat(0), splat(0)};
  const auto attempt = [&](V shift, V factor) {
    V sum_q = splat(0), sum_qq = splat(0), sum_qx = splat(0);
    for (int l = 0; l < L; ++l) {
      const V q = nearest(clamp((r.x[l] + shift) * factor, splat(0), splat(static_cast<float>(top))));
      const V weighted = r.w[l] * q;
      sum_q += weighted;
      sum_qq += weighted * q;
      sum_qx += weighted * r.x[l];
    }
    V slope = (total * sum_qx - sum_q * sum_x) * reciprocal(total * sum_qq - sum_q * sum_q);
    V offset = (slope * sum_q - sum_x) * per_total;
    slope = offset < 0 ? sum_qx * reciprocal(sum_qq) : slope;  // the best slope when the offset must be zero
    slope = upper(slope, splat(0));
    offset = upper(offset, splat(0));
    const V error = sum_xx - 2.0f * (slope * sum_qx - offset * sum_x) + slope * slope * sum_qq -
                    2.0f * slope * offset * sum_q + offset * offset * total;
    const auto better = error < best;
    found.scale = better ? slope : found.scale;
    found.offset = better ? offset : found.offset;
    best = better ? error : best;
  };
  for (int i = -anchors; i <= anchors; ++i)
    attempt(-lowest, unit * (static_cast<float>(top) + apart * static_cast<float>(i)));
  for (int turn = 0; turn < 3; ++turn) attempt(found.offset, reciprocal(found.scale));
  return found;
}

template <int L>
V affine_error(const Runs<L>& r, V step, V offset, int top) {
  const V factor = reciprocal(step);
  V error = splat(0);
  for (int l = 0; l < L; ++l) {
    const V q = nearest(clamp((r.x[l] + offset) * factor, splat(0), splat(static_cast<float>(top))));
    const V off = step * q - offset - r.x[l];
    error += r.w[l] * off * off;
  }
  return error;
}

}  // namespace LOQAL_ENCODE
}  // namespace loqal
