// The private module mpsnn._core: thin over include/mpsnn, one file a topic.
#include "bindings.h"

PYBIND11_MODULE(_core, m) {
  using namespace mpsnn::bindings;
  m.doc() = "The compiled core of mpsnn. Private: use the mpsnn package.";
  bind_errors(m);
  bind_tensor(m);
  bind_graph(m);
  bind_program(m);
  bind_device(m);
  bind_safetensors(m);
}
