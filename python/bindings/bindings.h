// What the binding files share: one register function each, and the waits.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <memory>
#include <string>

#include "mpsnn/program.h"
#include "mpsnn/tensor.h"

namespace mpsnn::bindings {

namespace py = pybind11;

void bind_errors(py::module_& m);
void bind_tensor(py::module_& m);
void bind_graph(py::module_& m);
void bind_program(py::module_& m);
void bind_device(py::module_& m);
void bind_safetensors(py::module_& m);

// Asked every 50 ms by waits that have released the GIL: raises what a signal handler raised.
void check_signals();

// An array in numpy's hands that keeps the tensor's memory; bfloat16 as a float32 copy.
py::array to_numpy(const Tensor& tensor);
// A copy of anything array-like. DTypeError for what is no number.
Tensor to_tensor(const py::object& object, const std::string& dtype = "");

Shape to_shape(const py::handle& object);
py::tuple to_tuple(const Shape& shape);

// Fills `view` from an array-like; returns what must stay alive while the view is used.
py::object view_of(py::handle object, HostView& view);

}  // namespace mpsnn::bindings
