// DLPack (https://dmlc.github.io/dlpack), the unversioned exchange every library accepts.
#pragma once

#include "bindings.h"

namespace mpsnn::bindings {

py::capsule to_dlpack(const Tensor& tensor);
Tensor from_dlpack(const py::object& object);  // shares dense host memory, copies what is strided

}  // namespace mpsnn::bindings
