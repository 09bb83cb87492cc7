#include "dlpack.h"

#include <cstring>

#include "mpsnn/error.h"

namespace mpsnn::bindings {
namespace {

// The structures of dlpack.h, version 0.8; their layout is the protocol.
struct DLTensor {
  void* data;
  struct {
    int32_t type, id;
  } device;
  int32_t ndim;
  struct {
    uint8_t code, bits;
    uint16_t lanes;
  } dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
enum : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4 };
constexpr int32_t kCpu = 1;

struct Export {
  Tensor tensor;
  Shape shape;
  DLManagedTensor managed{};
};

DType dtype_of(const DLTensor& t) {
  const int bits = t.dtype.bits;
  if (t.dtype.lanes == 1) switch (t.dtype.code) {
      case kFloat:
        if (bits == 32) return DType::float32;
        if (bits == 16) return DType::float16;
        if (bits == 64) return DType::float64;
        break;
      case kBfloat:
        if (bits == 16) return DType::bfloat16;
        break;
      case kInt:
        if (bits == 32) return DType::int32;
        if (bits == 64) return DType::int64;
        break;
      case kUInt:
        if (bits == 8) return DType::uint8;
        break;
      default:
        break;
    }
  throw DTypeError("a DLPack array of type code " + std::to_string(t.dtype.code) + ", " +
                   std::to_string(bits) + " bits is not supported");
}

}  // namespace

py::capsule to_dlpack(const Tensor& tensor) {
  auto* kept = new Export{tensor, tensor.shape(), {}};
  DLTensor& t = kept->managed.tensor;
  t.data = kept->tensor.data();
  t.device = {kCpu, 0};
  t.ndim = static_cast<int32_t>(kept->shape.size());
  t.shape = kept->shape.data();
  uint8_t code = kFloat;
  if (tensor.dtype() == DType::bfloat16) code = kBfloat;
  if (tensor.dtype() == DType::int32 || tensor.dtype() == DType::int64) code = kInt;
  if (tensor.dtype() == DType::uint8) code = kUInt;
  t.dtype = {code, static_cast<uint8_t>(8 * size_of(tensor.dtype())), 1};
  kept->managed.context = kept;
  kept->managed.deleter = [](DLManagedTensor* m) { delete static_cast<Export*>(m->context); };
  return py::capsule(&kept->managed, "dltensor", [](PyObject* capsule) {
    // A consumer renames the capsule and takes the deleter over.
    if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;
    auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    m->deleter(m);
  });
}

Tensor from_dlpack(const py::object& object) {
  if (!py::hasattr(object, "__dlpack__") || !py::hasattr(object, "__dlpack_device__"))
    throw TypeError("expected an array with __dlpack__, got " +
                    py::str(py::type::of(object)).cast<std::string>());
  const auto device = object.attr("__dlpack_device__")().cast<py::tuple>();
  if (device[0].cast<int>() != kCpu)
    throw DeviceError("only host memory can be taken over DLPack, this array is on device type " +
                      std::to_string(device[0].cast<int>()));
  const py::object capsule = object.attr("__dlpack__")();
  auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (m == nullptr) throw py::error_already_set();
  const DLTensor& t = m->tensor;
  const DType dtype = dtype_of(t);
  Shape shape(t.shape, t.shape + t.ndim);
  bool dense = true;
  int64_t expected = 1;
  for (int i = t.ndim; t.strides != nullptr && i-- > 0; expected *= shape[static_cast<size_t>(i)])
    dense &= shape[static_cast<size_t>(i)] == 1 || t.strides[i] == expected;
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  char* base = static_cast<char*>(t.data) + t.byte_offset;
  const std::shared_ptr<void> memory(base, [m](void*) {
    const py::gil_scoped_acquire gil;
    if (m->deleter != nullptr) m->deleter(m);
  });
  if (dense) return Tensor(std::move(shape), dtype, memory);
  Tensor copy(shape, dtype);
  const std::size_t size = size_of(dtype);
  for (int64_t i = 0; i < copy.count(); ++i) {
    int64_t rest = i, offset = 0;
    for (int axis = t.ndim; axis-- > 0;) {
      offset += rest % t.shape[axis] * t.strides[axis];
      rest /= t.shape[axis];
    }
    std::memcpy(static_cast<char*>(copy.data()) + static_cast<std::size_t>(i) * size,
                base + static_cast<std::size_t>(offset) * size, size);
  }
  return copy;
}

}  // namespace mpsnn::bindings
