// Whether the processor converts halves. clang 14 does not know it by name.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

namespace mpsnn {

inline bool has_f16c() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __builtin_cpu_supports("avx") && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
           (c & bit_F16C) != 0;
  }();
  return has;
}

}  // namespace mpsnn
#endif
