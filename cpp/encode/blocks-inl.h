// Scales shared by the runs of a super-block, and the bytes of a block.
#include "encode/search-inl.h"

namespace loqal {
namespace LOQAL_ENCODE {

// `kBlocks` super-blocks side by side in the lanes. Writing the scale of a run as a whole number times one number for
// the super-block costs accuracy; both neighbours of the ideal whole number are tried, and the one number is fitted
// again to what was chosen.
template <int kBlocks>
struct Shared {
  static constexpr int kRuns = kLanes / kBlocks;
  static V spread(const float* per_block) {
    V lanes;
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = per_block[lane / kRuns];
    return lanes;
  }
  static void sum(V lanes, float* per_block) {
    for (int b = 0; b < kBlocks; ++b) {
      float total = 0;
      for (int run = 0; run < kRuns; ++run) total += lanes[b * kRuns + run];
      per_block[b] = total;
    }
  }
};

template <int kBlocks>
struct SharedScale {
  float d[kBlocks];  // survives float16
  V whole;           // the whole number of every run
};

template <class Levels, int kBlocks, int L>
SharedScale<kBlocks> share_scale(const Runs<L>& r, V ideal, int limit) {
  using S = Shared<kBlocks>;
  float d[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    float extreme = 0;
    for (int run = 0; run < S::kRuns; ++run) {
      const float s = ideal[b * S::kRuns + run];
      if (std::fabs(s) > std::fabs(extreme)) extreme = s;
    }
    d[b] = as_half(extreme / static_cast<float>(-limit));
  }
  SharedScale<kBlocks> best{};
  float least[kBlocks];
  for (float& error : least) error = 3e38f;
  for (int round = 0; round < 3; ++round) {
    const V dv = S::spread(d), place = ideal * reciprocal(dv);
    const V lo = splat(static_cast<float>(-limit)), hi = splat(static_cast<float>(limit - 1));
    const V below = clamp(floor_of(clamp(place, lo, hi)), lo, hi), above = lower(below + 1.0f, hi);
    const V error_below = scale_error<Levels>(r, dv * below), error_above = scale_error<Levels>(r, dv * above);
    const V whole = error_above < error_below ? above : below;
    float error[kBlocks];
    S::sum(lower(error_above, error_below), error);
    V cross = splat(0), square = splat(0);
    const V factor = reciprocal(dv * whole);
    for (int l = 0; l < L; ++l) {
      const V a = whole * Levels::level(r.x[l] * factor), weighted = r.w[l] * a;
      cross += weighted * r.x[l];
      square += weighted * a;
    }
    float c[kBlocks], s[kBlocks];
    S::sum(cross, c);
    S::sum(square, s);
    for (int b = 0; b < kBlocks; ++b) {
      if (error[b] < least[b]) {
        least[b] = error[b];
        best.d[b] = d[b];
        for (int run = 0; run < S::kRuns; ++run) best.whole[b * S::kRuns + run] = whole[b * S::kRuns + run];
      }
      if (s[b] > 0) d[b] = as_half(c[b] / s[b]);
    }
  }
  return best;
}

template <int kBlocks>
struct SharedAffine {
  float d[kBlocks], dmin[kBlocks];
  V scale, minimum;  // whole numbers
};

template <int kBlocks, int L>
SharedAffine<kBlocks> share_affine(const Runs<L>& r, const Affine& ideal, int top, int top_scale) {
  using S = Shared<kBlocks>;
  float d[kBlocks], dmin[kBlocks], least[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    float scale = 0, offset = 0;
    for (int run = 0; run < S::kRuns; ++run) {
      scale = std::max(scale, ideal.scale[b * S::kRuns + run]);
      offset = std::max(offset, ideal.offset[b * S::kRuns + run]);
    }
    d[b] = as_half(scale / static_cast<float>(top_scale));
    dmin[b] = as_half(offset / static_cast<float>(top_scale));
    least[b] = 3e38f;
  }
  SharedAffine<kBlocks> best{};
  const V hi = splat(static_cast<float>(top_scale));
  for (int round = 0; round < 3; ++round) {
    const V dv = S::spread(d), mv = S::spread(dmin);
    const V s0 = floor_of(clamp(ideal.scale * reciprocal(dv), splat(0), hi)), s1 = lower(s0 + 1.0f, hi);
    const V m0 = floor_of(clamp(ideal.offset * reciprocal(mv), splat(0), hi)), m1 = lower(m0 + 1.0f, hi);
    V scale = s0, minimum = m0, error = affine_error(r, dv * s0, mv * m0, top);
    const auto attempt = [&](V s, V m) {
      const V e = affine_error(r, dv * s, mv * m, top);
      scale = e < error ? s : scale;
      minimum = e < error ? m : minimum;
      error = lower(e, error);
    };
    attempt(s1, m0);
    attempt(s0, m1);
    attempt(s1, m1);
    // With the codes that follow, the two numbers of the super-block are a least-squares problem.
    V aa = splat(0), ab = splat(0), bb = splat(0), ax = splat(0), bx = splat(0);
    const V offset = mv * minimum, factor = reciprocal(dv * scale);
    for (int l = 0; l < L; ++l) {
      const V q = nearest(clamp((r.x[l] + offset) * factor, splat(0), splat(static_cast<float>(top))));
      const V a = scale * q, wa = r.w[l] * a, wb = r.w[l] * minimum;
      aa += wa * a;
      ab += wa * minimum;
      bb += wb * minimum;
      ax += wa * r.x[l];
      bx += wb * r.x[l];
    }
    float e[kBlocks], saa[kBlocks], sab[kBlocks], sbb[kBlocks], sax[kBlocks], sbx[kBlocks];
    S::sum(error, e);
    S::sum(aa, saa);
    S::sum(ab, sab);
    S::sum(bb, sbb);
    S::sum(ax, sax);
    S::sum(bx, sbx);
    for (int b = 0; b < kBlocks; ++b) {
      if (e[b] < least[b]) {
        least[b] = e[b];
        best.d[b] = d[b];
        best.dmin[b] = dmin[b];
        for (int lane = b * S::kRuns; lane < (b + 1) * S::kRuns; ++lane) {
          best.scale[lane] = scale[lane];
          best.minimum[lane] = minimum[lane];
        }
      }
      // Minimise d^2 aa - 2 d m ab + m^2 bb - 2 d ax + 2 m bx.
      const float determinant = saa[b] * sbb[b] - sab[b] * sab[b];
      if (determinant > 1e-6f * saa[b] * sbb[b] && determinant > 0) {
        const float dd = (sax[b] * sbb[b] - sbx[b] * sab[b]) / determinant;
        const float mm = (sax[b] * sab[b] - sbx[b] * saa[b]) / determinant;
        if (dd > 0 && mm >= 0) {
          d[b] = as_half(dd);
          dmin[b] = as_half(mm);
        }
      } else if (saa[b] > 0 && sax[b] > 0 && sbb[b] == 0) {
        d[b] = as_half(sax[b] / saa[b]);
      }
    }
  }
  return best;
}

// Joins the lowest `bits` bits of small integers into bytes, `run` bytes at a time: the lowest bits of a run of bytes
// are the first `run` integers, the next bits the following ones.
inline uint8_t* pack_bits(const uint8_t* values, int count, int shift, int bits, int run, uint8_t* out) {
  const int planes = 8 / bits, mask = (1 << bits) - 1;
  for (int at = 0; at < count; at += planes * run)
    for (int j = 0; j < run; ++j) {
      int byte = 0;
      for (int p = 0; p < planes; ++p) byte |= (values[at + p * run + j] >> shift & mask) << (p * bits);
      *out++ = static_cast<uint8_t>(byte);
    }
  return out;
}
inline uint8_t* put_half(float value, uint8_t* out) {
  const uint16_t half = to_float16(value);
  std::memcpy(out, &half, 2);
  return out + 2;
}
inline uint8_t* pack_scales_and_minima(const uint8_t* s, const uint8_t* m, uint8_t* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = static_cast<uint8_t>(s[i] | (s[i + 4] & 0x30) << 2);
    out[i + 4] = static_cast<uint8_t>(m[i] | (m[i + 4] & 0x30) << 2);
    out[i + 8] = static_cast<uint8_t>((s[i + 4] & 15) | m[i + 4] << 4);
  }
  return out + 12;
}

}  // namespace LOQAL_ENCODE
}  // namespace loqal
