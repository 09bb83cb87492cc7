#include "runtime/step.h"

#include <algorithm>
#include <chrono>

#include "mpsnn/error.h"
#include "mpsnn/program.h"
#include "runtime/command_queue.h"

namespace mpsnn {

void StepError::raise() {
  if (raised.exchange(true)) return;
  if (on_raise) try {
      on_raise();
    } catch (...) {  // the device may be gone: what is raised is why
    }
  std::rethrow_exception(error);
}

bool wait_interruptibly(std::unique_lock<std::mutex>& lock, std::condition_variable& condition,
                        const std::function<bool()>& ready, std::optional<double> seconds,
                        const std::function<void()>& interrupted) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  while (!ready()) {
    double slice = 0.05;
    if (seconds) {
      const double left = *seconds - std::chrono::duration<double>(Clock::now() - start).count();
      if (left <= 0) return false;
      slice = std::min(slice, left);
    }
    condition.wait_for(lock, std::chrono::duration<double>(slice));
    if (ready()) break;
    if (interrupted) {
      lock.unlock();
      interrupted();
      lock.lock();
    }
  }
  return true;
}

void StepState::reset(int64_t step_index) {
  index = step_index;
  updated = false;
  error_ = nullptr;
  callbacks_.clear();
  done_.store(false, std::memory_order_release);
}

void StepState::finish(std::shared_ptr<StepError> error) {
  std::vector<std::function<void()>> callbacks;
  {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    done_.store(true, std::memory_order_release);
    callbacks.swap(callbacks_);
    ready_.notify_all();
  }
  for (auto& callback : callbacks) runtime::notify(std::move(callback));
}

void StepState::raise_error() {
  if (const std::shared_ptr<StepError> error = error_) error->raise();
}

bool StepState::wait(std::optional<double> seconds, const std::function<void()>& interrupted) {
  if (!done()) {
    if (runtime::on_notifier_thread())
      throw DeviceError("wait() inside a callback would hold up the thread it waits for");
    runtime::check_not_forked();
    runtime::check_not_in_host_call();
    std::unique_lock lock(mutex_);
    if (!wait_interruptibly(lock, ready_, [this] { return done(); }, seconds, interrupted))
      return false;
  }
  raise_error();
  return true;
}

void StepState::add_done_callback(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!done()) {
      callbacks_.push_back(std::move(callback));
      return;
    }
  }
  runtime::notify(std::move(callback));
}

int64_t Step::index() const { return state_->index; }
bool Step::done() const { return state_->done(); }
bool Step::wait(std::optional<double> seconds, const std::function<void()>& interrupted) const {
  return state_->wait(seconds, interrupted);
}
Tensor Step::result(std::size_t i) const { return state_->results.at(i); }
bool Step::updated() const { return state_->updated; }
void Step::add_done_callback(std::function<void()> callback) const {
  state_->add_done_callback(std::move(callback));
}

}  // namespace mpsnn
