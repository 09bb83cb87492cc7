// The typed errors of the contract, each a subclass of Python's own.
#include "mpsnn/error.h"

#include <cerrno>

#include "bindings.h"

namespace mpsnn::bindings {

void check_signals() {
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

void bind_errors(py::module_& m) {
  py::register_exception<ShapeError>(m, "ShapeError", PyExc_ValueError);
  py::register_exception<DTypeError>(m, "DTypeError", PyExc_TypeError);
  py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError).attr("step") =
      py::none();
  py::register_exception<UnsupportedError>(m, "UnsupportedError", PyExc_NotImplementedError);
  py::register_exception<OutOfMemoryError>(m, "OutOfMemoryError", PyExc_MemoryError);
  py::register_exception<FormatError>(m, "FormatError", PyExc_ValueError);
  py::register_exception<NonFiniteError>(m, "NonFiniteError", PyExc_ArithmeticError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const DeviceLostError& e) {
      const py::object type = py::module_::import("mpsnn._core").attr("DeviceError");
      const py::object made = type(e.what());
      made.attr("step") = e.step();
      PyErr_SetObject(type.ptr(), made.ptr());
    } catch (const FileError& e) {
      errno = e.code();
      PyErr_SetFromErrnoWithFilename(PyExc_OSError, e.path().c_str());
    } catch (const ValueError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const TypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    }
  });
}

}  // namespace mpsnn::bindings
