// The only file that names every backend, in the order that device="auto" prefers them.
#include "backend/register.h"

#include "runtime/registry.h"

namespace mpsnn::runtime {

const std::vector<BackendKind>& backend_kinds() {
  static const std::vector<BackendKind> kinds = {
#ifdef MPSNN_HAS_MPS
      {"mps", backend::enumerate_mps, backend::create_mps},
#endif
#ifdef MPSNN_HAS_CPU
      {"cpu", backend::enumerate_cpu, backend::create_cpu},
#endif
      {"reference", backend::enumerate_reference, backend::create_reference},
  };
  return kinds;
}

}  // namespace mpsnn::runtime
