#include "targets/dispatch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace loqal {

namespace {

#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
// By the processor's own word: not every compiler's __builtin_cpu_supports knows its name.
[[maybe_unused]] bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#elif defined(__aarch64__)
[[maybe_unused]] bool has_dotprod() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
[[maybe_unused]] bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM); }
#endif

// The tables of this build that this machine can run. LOQAL_ISA_* say which ones the compiler could make.
std::vector<const KernelTable*> find_tables() {
  std::vector<const KernelTable*> found;
#ifdef LOQAL_ISA_AVX512
  if (has_avx512() && __builtin_cpu_supports("avx512vnni")) found.push_back(avx512_table());
#endif
#ifdef LOQAL_ISA_AVX512_NOVNNI
  if (has_avx512()) found.push_back(avx512_novnni_table());
#endif
#ifdef LOQAL_ISA_AVX2_VNNI
  if (has_avx_vnni()) found.push_back(avx2_vnni_table());
#endif
#ifdef LOQAL_ISA_AVX2
  if (has_avx2()) found.push_back(avx2_table());
#endif
#ifdef LOQAL_ISA_NEON_I8MM
  if (has_i8mm()) found.push_back(neon_i8mm_table());
#endif
#ifdef LOQAL_ISA_NEON
  if (has_dotprod()) found.push_back(neon_table());
#endif
  found.push_back(plain_table());
  return found;
}

}  // namespace

bool hardware_prefetches() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0, &a, &b, &c, &d) && c == signature_AMD_ecx;
#else
  return false;
#endif
}

const std::vector<const KernelTable*>& usable_tables() {
  static const std::vector<const KernelTable*> tables = find_tables();
  return tables;
}

}  // namespace loqal
