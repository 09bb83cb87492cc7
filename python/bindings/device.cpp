// Devices, support and threads.
#include "mpsnn/device.h"

#include "bindings.h"
#include "mpsnn/log.h"

namespace mpsnn::bindings {
namespace {

// Messages come from any thread, with or without the GIL.
void forward(log::Level level, const std::string& message) {
  if (Py_IsInitialized() == 0) return;
  const py::gil_scoped_acquire gil;
  try {
    const py::object logger = py::module_::import("logging").attr("getLogger")("mpsnn");
    logger.attr("log")(level == log::Level::debug  ? 10
                       : level == log::Level::info ? 20
                                                   : 30,
                       message);
  } catch (py::error_already_set& e) {
    e.discard_as_unraisable("the mpsnn logger");
  }
}

}  // namespace

void bind_device(py::module_& m) {
  log::set_sink(forward);
  m.def("devices", [] {
    py::list list;
    for (const Device& d : devices()) {
      py::list dtypes;
      for (const DType dtype : d.dtypes) dtypes.append(name_of(dtype));
      list.append(py::dict(py::arg("kind") = d.kind, py::arg("index") = d.index,
                           py::arg("id") = d.id(), py::arg("name") = d.name,
                           py::arg("memory") = d.memory, py::arg("removable") = d.removable,
                           py::arg("low_power") = d.low_power, py::arg("headless") = d.headless,
                           py::arg("unified_memory") = d.unified_memory,
                           py::arg("registry_id") = d.registry_id, py::arg("dtypes") = dtypes,
                           py::arg("dtype_notes") = d.dtype_notes, py::arg("notes") = d.notes));
    }
    return list;
  });
  const auto unlock = py::call_guard<py::gil_scoped_release>();
  m.def(
      "supports",
      [](const Graph& graph, const std::string& device, bool gradient) {
        const Support support = supports(graph, device, gradient);
        return std::make_pair(support.ok, support.reason);
      },
      py::arg("graph"), py::arg("device"), py::arg("gradient"), unlock);
  m.def("self_test", &self_test, py::arg("device"), unlock,
        "Empty when the device computes right.");
  m.def("set_num_threads", &set_num_threads, py::arg("count"));
  m.def("num_threads", &num_threads);
  m.def("drain", &drain, unlock, "Waits for all queued steps and callbacks.");
  py::module_::import("atexit").attr("register")(m.attr("drain"));
}

}  // namespace mpsnn::bindings
