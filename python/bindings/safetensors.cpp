#include "mpsnn/safetensors.h"

#include "bindings.h"

namespace mpsnn::bindings {
namespace {

py::tuple to_python(const TensorFile& file) {
  py::dict tensors;
  for (const auto& [name, tensor] : file.tensors)
    tensors[py::str(name)] =
        tensor.dtype() == DType::bfloat16 ? py::cast(tensor) : py::object(to_numpy(tensor));
  return py::make_tuple(tensors, file.metadata);
}

}  // namespace

void bind_safetensors(py::module_& m) {
  m.def(
      "read_safetensors",
      [](const std::string& path, const std::optional<std::vector<std::string>>& names) {
        TensorFile file;
        {
          const py::gil_scoped_release release;
          file = names ? read_safetensors(path, *names) : read_safetensors(path);
        }
        return to_python(file);
      },
      py::arg("path"), py::arg("names") = std::nullopt);
  m.def(
      "parse_safetensors",
      [](const py::bytes& bytes, const std::string& name) {
        const std::string_view view = bytes;
        return to_python(parse_safetensors(view.data(), view.size(), name));
      },
      py::arg("bytes"), py::arg("name"));
  m.def(
      "write_safetensors",
      [](const std::string& path, const py::dict& tensors,
         const std::map<std::string, std::string>& metadata) {
        TensorFile file;
        file.metadata = metadata;
        for (const auto& [name, value] : tensors)
          file.tensors.emplace_back(name.cast<std::string>(),
                                    py::isinstance<Tensor>(value)
                                        ? value.cast<Tensor>()
                                        : to_tensor(py::reinterpret_borrow<py::object>(value)));
        const py::gil_scoped_release release;
        write_safetensors(path, file);
      },
      py::arg("path"), py::arg("tensors"), py::arg("metadata"));
}

}  // namespace mpsnn::bindings
