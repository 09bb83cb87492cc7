// The one thread of a device. Tasks run first in, first out; a caller may run one itself when the
// queue is idle, under the same exclusion, so order and errors are the same either way.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

namespace mpsnn::runtime {

class Task {
 public:
  virtual void run() noexcept = 0;

 protected:
  ~Task() = default;

 private:
  friend class CommandQueue;
  Task* next_ = nullptr;  // in the queue: a step allocates nothing
};

class CommandQueue {
 public:
  CommandQueue();

  void submit(Task& task);                      // the task outlives its run
  bool try_run(Task& task);                     // runs it here and now if the queue is idle
  void run(const std::function<void()>& body);  // in order, and waits; rethrows
  void drain();                                 // waits until idle

 private:
  void work();
  void release();

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Task *first_ = nullptr, *last_ = nullptr;
  bool busy_ = false;
};

// After fork() a child has no queue thread: its first use of a device raises DeviceError.
void check_not_forked();
bool forked();

// Locks what other threads of the caller's may hold for long. In a child nobody can say that they
// are alive: what is held there stays held, and DeviceError is raised instead of waiting.
[[nodiscard]] std::unique_lock<std::mutex> lock_unless_forked(std::mutex& mutex);

// While one lives on a thread, that thread holds up a queue for a call into the user's code: what
// would wait for the queue raises DeviceError instead.
class HostCall {
 public:
  HostCall();
  ~HostCall();
  HostCall(const HostCall&) = delete;
  HostCall& operator=(const HostCall&) = delete;
};
bool in_host_call();
void check_not_in_host_call();

// Runs callbacks one after another on a thread of its own.
void notify(std::function<void()> callback);
bool on_notifier_thread();
void drain_notifier();

}  // namespace mpsnn::runtime
