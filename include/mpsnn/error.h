// The typed errors of the contract; the bindings turn each into the Python class of the same name.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace mpsnn {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

#define MPSNN_ERROR(Name)     \
  class Name : public Error { \
   public:                    \
    using Error::Error;       \
  }

MPSNN_ERROR(ShapeError);
MPSNN_ERROR(DTypeError);
MPSNN_ERROR(DeviceError);
MPSNN_ERROR(UnsupportedError);
MPSNN_ERROR(OutOfMemoryError);
MPSNN_ERROR(FormatError);
MPSNN_ERROR(NonFiniteError);
MPSNN_ERROR(ValueError);  // Python's ValueError
MPSNN_ERROR(TypeError);   // Python's TypeError
#undef MPSNN_ERROR

// The device is gone, and with it what only it held. `step`: whose weights the host has, -1 those
// from before the graph's first step.
class DeviceLostError : public DeviceError {
 public:
  DeviceLostError(const std::string& what, int64_t step) : DeviceError(what), step_(step) {}
  int64_t step() const { return step_; }

 private:
  int64_t step_;
};

// A failed system call: the bindings raise the OSError subclass of `code` (errno) for `path`.
class FileError : public Error {
 public:
  FileError(int code, std::string path, const std::string& what)
      : Error(what), code_(code), path_(std::move(path)) {}
  int code() const { return code_; }
  const std::string& path() const { return path_; }

 private:
  int code_;
  std::string path_;
};

}  // namespace mpsnn
