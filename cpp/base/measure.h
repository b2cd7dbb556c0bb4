// What the machine can do at best: the speeds against which the kernels' own are stated.
#pragma once

#include <cstddef>

#include "base/threads.h"
#include "kernels/table.h"

namespace loqal {

// Bytes read from memory in order by all threads, in GB/s; the best of several passes over `bytes` bytes, which should
// be several times what the caches hold. Throws std::bad_alloc when there is not that much memory.
double read_gb_per_s(const KernelTable& table, ThreadPool& pool, size_t bytes);

// Integer operations of the table's own int8 product, a multiply and an add counted as two, over all threads: 10^9/s.
double int8_gops(const KernelTable& table, ThreadPool& pool);

// The same for the table's float32 fused multiply-add.
double float_gflops(const KernelTable& table, ThreadPool& pool);

}  // namespace loqal
