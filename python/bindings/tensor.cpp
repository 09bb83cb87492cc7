// Tensor: dense host memory shared with numpy, the buffer protocol and DLPack, never copied on the
// way out (bfloat16, which numpy lacks, goes as float32).
#include "mpsnn/tensor.h"

#include <cstring>

#include "bindings.h"
#include "dlpack.h"
#include "mpsnn/error.h"

namespace mpsnn::bindings {
namespace {

py::dtype numpy_dtype(DType dtype) {
  return py::dtype(dtype == DType::bfloat16 ? "float32" : name_of(dtype));
}

bool dtype_of(const py::dtype& given, DType& dtype) {
  if (given.byteorder() == '>') return false;
  const char kind = given.kind();
  const auto size = given.itemsize();
  if (kind == 'f' && size == 4)
    dtype = DType::float32;
  else if (kind == 'f' && size == 8)
    dtype = DType::float64;
  else if (kind == 'f' && size == 2)
    dtype = DType::float16;
  else if (kind == 'i' && size == 4)
    dtype = DType::int32;
  else if (kind == 'i' && size == 8)
    dtype = DType::int64;
  else if (kind == 'u' && size == 1)
    dtype = DType::uint8;
  else
    return false;
  return true;
}

// Any array-like as a numpy array of a type the core knows.
py::array as_known_array(py::handle object) {
  py::object source = py::reinterpret_borrow<py::object>(object);
  if (py::isinstance<Tensor>(object)) return to_numpy(object.cast<const Tensor&>());
  if (!py::isinstance<py::array>(object) && py::hasattr(object, "__dlpack__"))
    return to_numpy(from_dlpack(source));
  py::array array = py::array::ensure(object);
  if (!array) {
    PyErr_Clear();
    throw DTypeError("expected an array of numbers, got " +
                     py::str(py::type::of(object)).cast<std::string>());
  }
  DType dtype{};
  if (dtype_of(array.dtype(), dtype)) return array;
  const char kind = array.dtype().kind();
  if (array.dtype().byteorder() != '>') {
    if (kind == 'b' || kind == 'i' || kind == 'u') return py::array(array.attr("astype")("int64"));
    if (kind == 'f') return py::array(array.attr("astype")("float64"));
  }
  throw DTypeError("expected an array of numbers, got dtype " +
                   py::str(array.dtype()).cast<std::string>());
}

std::string text_of(const py::object& object, const char* what) {
  Py_ssize_t size = 0;
  const char* text =
      PyUnicode_Check(object.ptr()) != 0 ? PyUnicode_AsUTF8AndSize(object.ptr(), &size) : nullptr;
  if (text == nullptr) {
    PyErr_Clear();
    throw TypeError(std::string(what) + ", got " + py::repr(object).cast<std::string>());
  }
  return std::string(text, static_cast<std::size_t>(size));
}

py::buffer_info buffer_of(Tensor& t) {
  if (t.device() != "cpu" && t.device() != "reference")
    throw py::buffer_error("the tensor is on " + t.device() + "; use numpy()");
  if (t.dtype() == DType::bfloat16)
    throw py::buffer_error("bfloat16 has no buffer format; use numpy() or DLPack");
  const py::array view = to_numpy(t);
  return view.request();
}

Tensor rows(const Tensor& t, int64_t start, int64_t length, bool drop) {
  Shape shape = t.shape();
  const int64_t row = shape[0] == 0 ? 0 : t.count() / shape[0];
  if (drop)
    shape.erase(shape.begin());
  else
    shape[0] = length;
  char* at = static_cast<char*>(const_cast<void*>(t.data())) +
             static_cast<std::size_t>(start * row) * size_of(t.dtype());
  return Tensor(std::move(shape), t.dtype(), std::shared_ptr<void>(t.memory(), at), t.device());
}

Tensor item(const Tensor& t, const py::object& key) {
  if (t.shape().empty()) throw py::index_error("a scalar has no items");
  const int64_t n = t.shape()[0];
  if (py::isinstance<py::slice>(key)) {
    py::ssize_t start = 0, stop = 0, step = 0, length = 0;
    if (!key.cast<py::slice>().compute(static_cast<py::ssize_t>(n), &start, &stop, &step, &length))
      throw py::error_already_set();
    if (step != 1) throw ValueError("slices of a Tensor have step 1");
    return rows(t, start, length, false);
  }
  if (PyIndex_Check(key.ptr()) == 0) throw TypeError("a Tensor takes integers and slices");
  int64_t index = PyNumber_AsSsize_t(key.ptr(), PyExc_IndexError);
  if (index == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (index < 0) index += n;
  if (index < 0 || index >= n) throw py::index_error("index out of range");
  return rows(t, index, 1, true);
}

}  // namespace

Shape to_shape(const py::handle& object) {
  Shape shape;
  for (const py::handle size : object) {
    if (!PyIndex_Check(size.ptr())) throw TypeError("a shape is a tuple of integers");
    shape.push_back(py::cast<int64_t>(size.attr("__index__")()));
  }
  return shape;
}

py::tuple to_tuple(const Shape& shape) {
  py::tuple tuple(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) tuple[i] = shape[i];
  return tuple;
}

py::array to_numpy(const Tensor& tensor) {
  const Tensor shared = tensor.dtype() == DType::bfloat16 ? tensor.to(DType::float32) : tensor;
  auto* memory = new std::shared_ptr<void>(shared.memory());
  const py::capsule owner(memory, [](void* p) { delete static_cast<std::shared_ptr<void>*>(p); });
  const std::vector<py::ssize_t> shape(shared.shape().begin(), shared.shape().end());
  return py::array(numpy_dtype(shared.dtype()), shape, shared.data(), owner);
}

Tensor to_tensor(const py::object& object, const std::string& dtype) {
  const py::array array = as_known_array(object);
  const py::array dense = py::array::ensure(array, py::array::c_style | py::array::forcecast);
  if (!dense) throw OutOfMemoryError("no memory for a dense copy of the array");
  DType from{};
  dtype_of(dense.dtype(), from);
  Tensor tensor(Shape(dense.shape(), dense.shape() + dense.ndim()), from);
  std::memcpy(tensor.data(), dense.data(), tensor.bytes());
  return dtype.empty() ? tensor : tensor.to(parse_dtype(dtype));
}

py::object view_of(py::handle object, HostView& view) {
  view.strides.clear();
  if (object.is_none()) {
    view.data = nullptr;
    view.shape.clear();
    return {};
  }
  const py::array array = as_known_array(object);
  view.data = array.data();
  dtype_of(array.dtype(), view.dtype);
  view.shape.assign(array.shape(), array.shape() + array.ndim());
  if ((array.flags() & py::array::c_style) == 0)
    view.strides.assign(array.strides(), array.strides() + array.ndim());
  return array;
}

void bind_tensor(py::module_& m) {
  py::class_<Tensor>(m, "Tensor", py::buffer_protocol(),
                     "A dense array on a device, channels last. No arithmetic: mpsnn.ops has.")
      .def(py::init([](const py::object& array, const py::object& dtype, const py::object& device) {
             Tensor tensor =
                 to_tensor(array, dtype.is_none() ? "" : text_of(dtype, "dtype is a name"));
             tensor.set_device(text_of(device, "device is a name"));
             return tensor;
           }),
           py::arg("array"), py::arg("dtype") = py::none(), py::arg("device") = "cpu",
           "Copies an array-like.")
      .def_property_readonly("shape", [](const Tensor& t) { return to_tuple(t.shape()); })
      .def_property_readonly("dtype", [](const Tensor& t) { return name_of(t.dtype()); })
      .def_property_readonly("device", &Tensor::device)
      .def("numpy", &to_numpy, "A view of the tensor's memory; bfloat16 gives a float32 copy.")
      .def(
          "__array__",
          [](const Tensor& t, const py::object& dtype, const py::object& copy) {
            py::object array = to_numpy(t);
            if (!dtype.is_none()) array = array.attr("astype")(dtype, py::arg("copy") = false);
            if (!copy.is_none() && py::cast<bool>(py::bool_(copy))) array = array.attr("copy")();
            return array;
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def_buffer(&buffer_of)
      .def(
          "__dlpack__",
          [](const Tensor& t, const py::object&, const py::object&, const py::object& dl_device,
             const py::object& copy) {
            if (!dl_device.is_none() && !dl_device.equal(py::make_tuple(1, 0)))
              throw py::buffer_error("the tensor is in host memory, device (1, 0) of DLPack");
            const bool copies = !copy.is_none() && py::cast<bool>(py::bool_(copy));
            return to_dlpack(copies ? t.clone() : t);
          },
          py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
          py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const Tensor&) { return py::make_tuple(1, 0); })
      .def_static("from_dlpack", &from_dlpack, py::arg("array"),
                  "Shares dense host memory; copies what is strided.")
      .def("__len__",
           [](const Tensor& t) {
             if (t.shape().empty()) throw TypeError("a scalar has no length");
             return t.shape()[0];
           })
      .def("__getitem__", &item)
      .def("__repr__",
           [](const Tensor& t) {
             return "Tensor(shape=" + to_string(t.shape()) + ", dtype=" + name_of(t.dtype()) +
                    ", device=" + t.device() + ")";
           })
      .def("__copy__", &Tensor::clone)
      .def("__deepcopy__", [](const Tensor& t, const py::dict&) { return t.clone(); })
      .def(py::pickle(
          [](const Tensor& t) {
            return py::make_tuple(to_tuple(t.shape()), name_of(t.dtype()), t.device(),
                                  py::bytes(static_cast<const char*>(t.data()), t.bytes()));
          },
          [](const py::tuple& state) {
            Tensor t(to_shape(state[0]), parse_dtype(state[1].cast<std::string>()));
            const auto bytes = state[3].cast<std::string>();
            if (bytes.size() != t.bytes()) throw FormatError("a pickled Tensor is damaged");
            std::memcpy(t.data(), bytes.data(), bytes.size());
            t.set_device(state[2].cast<std::string>());
            return t;
          }));
}

}  // namespace mpsnn::bindings
