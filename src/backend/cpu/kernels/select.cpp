#include <cstdlib>
#include <string_view>

#include "backend/cpu/kernels/table.h"
#include "core/f16c.h"

namespace mpsnn::backend::cpu {
namespace {

const KernelTable& choose() {
#if defined(__x86_64__) && !defined(__APPLE__)
  const char* wish = std::getenv("MPSNN_CPU_ISA");
  const std::string_view most = wish != nullptr ? wish : "avx512";
  __builtin_cpu_init();
  const bool has2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool has512 = has2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (has512 && most == "avx512") return avx512::table;
  if (has2 && most != "baseline") return avx2::table;
#endif
  return baseline::table;
}

}  // namespace

bool multiplies_bfloat() {
#if defined(__x86_64__) && !defined(__APPLE__)
  return &select() == &avx512::table && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const KernelTable& select() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace mpsnn::backend::cpu
