// One Metal device in use: its queue, our compiled kernels, memory by purpose, and errors as C++.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "backend/mps/handles.h"
#include "mpsnn/device.h"
#include "runtime/backend.h"

namespace mpsnn::backend::mps {

// Runs `body` in an autorelease pool that is drained however it ends (an @autoreleasepool is not,
// when an exception leaves it). An NSException becomes a DeviceError.
void pooled(const std::function<void()>& body);

// The label of encoders at the end of a step, where others have a layer's.
inline constexpr const char* kUpdateLabel = "update";

// Where the memory of a buffer is. With unified memory all but `gpu` is shared; a discrete card
// keeps `gpu` and `lasting` to itself and mirrors the others.
enum class Use : uint8_t {
  gpu,       // read and written by kernels only
  lasting,   // the same, but the host reads and writes it now and then (Storage)
  upload,    // written by the host: wrote() tells the device
  download,  // read by the host, after a synchronize on the command buffer that wrote it
};

class Gpu {
 public:
  explicit Gpu(const Device& device);  // DeviceError when it is gone or not usable
  ~Gpu();

  DeviceRef device() const { return device_; }
  bool unified() const { return unified_; }

  BufferRef buffer(std::size_t bytes, Use use);  // zero-filled where the host can see it
  void wrote(BufferRef upload, std::size_t bytes) const;

  PipelineRef pipeline(const char* kernel);  // of kernels.metal
  ToMatrixRef to_matrix() const { return to_matrix_; }
  ToImageRef to_image() const { return to_image_; }

  CommandsRef commands(const char* label);  // a fresh command buffer; DeviceError
  void commit(CommandsRef commands);
  void wait_idle();  // until all that was committed is done

  // Blocking copies between the host and a lasting buffer; wait for what is in flight.
  void write(BufferRef to, const void* from, std::size_t bytes);
  void read(BufferRef from, void* to, std::size_t bytes);

  // nullptr when `commands` has completed well, else an error that names the layer if Metal does.
  std::exception_ptr outcome(CommandsRef commands) const;
  bool lost() const { return *lost_; }  // the device was removed

 private:
  DeviceRef device_;
  QueueRef queue_;
  LibraryRef library_;
  ToMatrixRef to_matrix_;
  ToImageRef to_image_;
  bool unified_ = true;
  ObserverRef observer_ = nullptr;  // of removals
  std::shared_ptr<std::atomic<bool>> lost_ = std::make_shared<std::atomic<bool>>(false);
  std::map<std::string, PipelineRef> pipelines_;
  CommandsRef last_;
};

// A parameter, moment or counter: one buffer in the canonical layout, which is MPS's own.
class DeviceStorage final : public runtime::Storage {
 public:
  DeviceStorage(Gpu& gpu, std::size_t bytes);
  ~DeviceStorage() override;
  void write(const Tensor& canonical) override;
  void read(Tensor& canonical) const override;

  BufferRef buffer() const { return buffer_; }
  // Changes with the contents; queue thread.
  int64_t version() const { return version_; }
  void changed() { ++version_; }

 private:
  Gpu& gpu_;
  BufferRef buffer_;
  int64_t version_ = 0;
};

extern const char* const kKernelSource;  // kernels.h and kernels.metal

}  // namespace mpsnn::backend::mps
