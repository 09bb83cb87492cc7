// The temporary file lies in the same folder, as a rename across file systems is none. Its name
// does not grow with the file's, so that every name the system takes can be saved.
#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "mpsnn/error.h"

namespace mpsnn::io {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 30;  // macOS refuses 2^31 bytes at once

[[noreturn]] void fail(int code, const std::string& path) {
  throw FileError(code, path, path + ": " + std::strerror(code));
}

template <class Call>
auto retry(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// To the medium itself: on macOS fsync stops at the drive's cache.
int sync(int descriptor) {
#ifdef F_FULLFSYNC
  if (fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
  return retry([&] { return fsync(descriptor); });
}

void check_path(const std::string& path) {
  if (path.find('\0') != std::string::npos) throw ValueError("a path has no null byte");
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  check_path(path_);
  // Without O_NONBLOCK a named pipe would wait here for a writer.
  descriptor_ = retry([&] { return open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (descriptor_ < 0) fail(errno, path_);
  struct stat info;
  int code = fstat(descriptor_, &info) != 0 ? errno : 0;
  if (code == 0 && !S_ISREG(info.st_mode)) code = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
  if (code != 0) {
    close(descriptor_);
    fail(code, path_);
  }
  size_ = static_cast<uint64_t>(info.st_size);
}

InputFile::~InputFile() { close(descriptor_); }

bool InputFile::read(uint64_t offset, std::size_t bytes, void* to) const {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t got = retry([&] {
      return pread(descriptor_, static_cast<char*>(to) + done, std::min(bytes - done, kChunk),
                   static_cast<off_t>(offset + done));
    });
    if (got < 0) fail(errno, path_);
    if (got == 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), folder_(folder_of(path_)) {
  check_path(path_);
  // A rename would put a file in the place of a device, and fail only at the end for a folder.
  struct stat info;
  const bool exists = stat(path_.c_str(), &info) == 0;
  if (path_.empty()) fail(ENOENT, path_);
  if (exists && !S_ISREG(info.st_mode)) fail(S_ISDIR(info.st_mode) ? EISDIR : EINVAL, path_);

  static std::atomic<unsigned> counter{0};
  do {
    temporary_ =
        folder_ + "/.mpsnn-" + std::to_string(getpid()) + "-" + std::to_string(counter++) + ".tmp";
    descriptor_ = retry(
        [&] { return open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail(errno, path_);
  if (exists) fchmod(descriptor_, info.st_mode & 07777);  // best effort: keeps who may read it
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t put = retry([&] {
      return ::write(descriptor_, static_cast<const char*>(data) + done,
                     std::min(bytes - done, kChunk));
    });
    if (put < 0) fail(errno, path_);
    done += static_cast<std::size_t>(put);
  }
}

void AtomicFile::commit() {
  if (sync(descriptor_) != 0) fail(errno, path_);
  if (close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail(errno, path_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno, path_);
  temporary_.clear();
  sync_folder();
}

void AtomicFile::sync_folder() const {
  const int folder = retry([&] { return open(folder_.c_str(), O_RDONLY | O_CLOEXEC); });
  if (folder < 0) return;  // a folder that may be written but not read: there is no way to sync it
  const int code = retry([&] { return fsync(folder); }) != 0 ? errno : 0;
  close(folder);
  if (code == EIO) fail(code, path_);  // others: a file system that cannot sync folders
}

}  // namespace mpsnn::io
