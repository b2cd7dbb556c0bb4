// The sequences of a step, as mixers read them.
#pragma once

#include <cstdint>

namespace loqal {

// Sequence s owns rows starts[s] .. starts[s+1]-1 of a step; ops.interface.StepBatch says what each array means.
struct StepArrays {
  const int32_t *starts, *past_len, *slots;     // [S+1], [S], [S]
  const int32_t* page_table;                    // [S pages_per_sequence]
  const int32_t *capture_rows, *capture_slots;  // [captures]
  int64_t sequences, pages_per_sequence, captures;
  const int32_t *journals = nullptr, *pending = nullptr, *defers = nullptr;  // [S], or none

  int64_t rows() const { return starts[sequences]; }
};

}  // namespace loqal
