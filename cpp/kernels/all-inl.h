// All kernels over the sixteen lanes included before, for one instruction set. No include guard: every targets/*.cpp
// includes this once, in a namespace of its own. The order matters, each file uses the ones above it.
// clang-format off
#include "kernels/functions-inl.h"
#include "layouts/all-inl.h"
#include "kernels/linear-inl.h"
#include "kernels/delta-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/vision-inl.h"
#include "kernels/measure-inl.h"
#include "kernels/table-inl.h"
// clang-format on
