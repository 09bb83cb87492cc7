// What a submitted step becomes: results in storage of its own, or an error, kept with it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "mpsnn/tensor.h"

namespace mpsnn {

// Raised once, by whoever comes first: the step's own wait, the next encode, or Program::wait.
struct StepError {
  std::exception_ptr error;
  std::atomic<bool> raised{false};
  std::function<void()> on_raise;  // lets updates go on after a failed step
  void raise();                    // if nobody has
};

class StepState {
 public:
  int64_t index = 0;
  bool updated = false;
  std::vector<Tensor> results;

  void reset(int64_t step_index);
  void finish(std::shared_ptr<StepError> error);
  bool done() const { return done_.load(std::memory_order_acquire); }
  bool wait(std::optional<double> seconds, const std::function<void()>& interrupted);
  void add_done_callback(std::function<void()> callback);
  void raise_error();

 private:
  std::atomic<bool> done_{false};
  std::mutex mutex_;
  std::condition_variable ready_;
  std::shared_ptr<StepError> error_;
  std::vector<std::function<void()>> callbacks_;
};

// Waits until `ready` under `lock`, asking `interrupted` (which may throw) every 50 ms.
bool wait_interruptibly(std::unique_lock<std::mutex>& lock, std::condition_variable& condition,
                        const std::function<bool()>& ready, std::optional<double> seconds,
                        const std::function<void()>& interrupted);

}  // namespace mpsnn
