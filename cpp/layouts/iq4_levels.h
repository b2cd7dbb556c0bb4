// The levels that codes of IQ4_NL and IQ4_XS name, for kernels and encoders.
#pragma once

#include <cstdint>

namespace loqal {

// Not inline: every instruction set's object keeps a copy of its own.
constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace loqal
