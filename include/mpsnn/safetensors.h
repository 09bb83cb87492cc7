// Reading and writing safetensors files: an 8-byte length, a JSON header, dense little-endian data.
// (https://github.com/huggingface/safetensors). Nothing in a file is trusted.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mpsnn/tensor.h"

namespace mpsnn {

struct TensorFile {
  std::vector<std::pair<std::string, Tensor>> tensors;  // in file order
  std::map<std::string, std::string> metadata;
};

// FormatError names the file, what was expected and what is there; FileError for the system's. Of
// `names`, those that are there: the data of others is not read, though the whole header is
// checked.
TensorFile read_safetensors(const std::string& path);
TensorFile read_safetensors(const std::string& path, const std::vector<std::string>& names);
TensorFile parse_safetensors(const void* bytes, std::size_t size, const std::string& name);

// Atomic: writes a temporary file beside `path`, fsyncs it, renames it, fsyncs the folder.
void write_safetensors(const std::string& path, const TensorFile& file);

}  // namespace mpsnn
