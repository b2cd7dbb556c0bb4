#include "ops/rope.h"

#include <cmath>

namespace loqal {
namespace {

// Sine and cosine in double, the same on every machine: reduction by pi/2 in three parts (33 bits each, so products
// with the quadrant are exact up to 2^20) and the polynomials of fdlibm; error below one unit of the last place.
void sin_cos(double x, double& sine, double& cosine) {
  const double n = std::nearbyint(x * 6.36619772367581382433e-01);
  double r = x - n * 1.57079632673412561417e+00;
  r -= n * 6.07710050630396597660e-11;
  r -= n * 2.02226624879595063154e-21;
  const double z = r * r;
  const double s = r + r * z *
                           (-1.66666666666666324348e-01 +
                            z * (8.33333333332248946124e-03 +
                                 z * (-1.98412698298579493134e-04 +
                                      z * (2.75573137070700676789e-06 +
                                           z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const double c = 1.0 - z * 0.5 +
                   z * z *
                       (4.16666666666666019037e-02 +
                        z * (-1.38888888888741095749e-03 +
                             z * (2.48015872894767294178e-05 +
                                  z * (-2.75573143513906633035e-07 +
                                       z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      sine = s;
      cosine = c;
      break;
    case 1:
      sine = c;
      cosine = -s;
      break;
    case 2:
      sine = -s;
      cosine = -c;
      break;
    default:
      sine = -c;
      cosine = s;
      break;
  }
}

}  // namespace

void rotary(const int32_t* positions, int64_t tokens, const double* frequencies, const int32_t* axes, int64_t pairs,
            double magnitude, float* cos, float* sin) {
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < pairs; ++i) {
      double s, c;
      sin_cos(static_cast<double>(positions[3 * t + axes[i]]) * frequencies[i], s, c);
      cos[t * pairs + i] = static_cast<float>(c * magnitude);
      sin[t * pairs + i] = static_cast<float>(s * magnitude);
    }
}

}  // namespace loqal
