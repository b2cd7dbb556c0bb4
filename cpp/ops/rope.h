// Rotary positions.
#pragma once

#include <cstdint>

namespace loqal {

// cos and sin [tokens pairs] of positions [tokens 3] times frequencies [pairs], each pair along the axis (time, height
// or width) that `axes` [pairs] names; both times `magnitude`.
void rotary(const int32_t* positions, int64_t tokens, const double* frequencies, const int32_t* axes, int64_t pairs,
            double magnitude, float* cos, float* sin);

}  // namespace loqal
