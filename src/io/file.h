// Files by system calls, every failure a FileError. A file being written is invisible under its
// name until `commit`: whenever the process is killed, the old contents or the new are there,
// whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mpsnn::io {

class InputFile {
 public:
  explicit InputFile(std::string path);  // must be a regular file
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size() const { return size_; }
  bool read(uint64_t offset, std::size_t bytes, void* to) const;  // false if the file ends before

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();  // removes the temporary file unless committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void commit();

 private:
  void sync_folder() const;

  std::string path_, folder_, temporary_;
  int descriptor_ = -1;
};

}  // namespace mpsnn::io
