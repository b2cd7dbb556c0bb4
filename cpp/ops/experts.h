// A mixture of experts.
#pragma once

#include <cstdint>

#include "ops/linear.h"

namespace loqal {

// `gate`, `up` and `down` hold one matrix per row of the router [E D]; `shared_router` is [1 D].
struct Experts {
  const Weight *router, *gate, *up, *down, *shared_router, *shared_gate, *shared_up, *shared_down;
  int64_t num_active;
};

// h += the chosen experts of every row by their shares, and the shared one by its own: h and x [rows D], where x goes
// through the norm first and may be h itself.
void routed_experts(Cpu& cpu, float* h, const float* x, int64_t rows, const Experts& e, const Norm& norm = {});

}  // namespace loqal
