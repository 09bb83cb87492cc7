#include "runtime/command_queue.h"

#include <pthread.h>

#include <atomic>
#include <deque>
#include <exception>
#include <thread>

#include "mpsnn/error.h"

namespace mpsnn::runtime {
namespace {

std::atomic<bool> in_child{false};
thread_local bool is_notifier = false;
thread_local bool is_host_call = false;

void watch_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { in_child = true; });
  static_cast<void>(registered);
}

class CallTask final : public Task {
 public:
  explicit CallTask(const std::function<void()>& body) : body_(body) {}
  void run() noexcept override {
    try {
      body_();
    } catch (...) {
      error_ = std::current_exception();
    }
    // Notified under the lock: the waiter may destroy this object at once after it.
    const std::lock_guard lock(mutex_);
    done_ = true;
    ready_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return done_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::function<void()>& body_;
  std::mutex mutex_;
  std::condition_variable ready_;
  bool done_ = false;
  std::exception_ptr error_;
};

struct Notifier {
  std::mutex mutex;
  std::condition_variable wake, idle;
  std::deque<std::function<void()>> callbacks;
  bool started = false, busy = false;
};
Notifier& notifier() {
  static Notifier& n = *new Notifier;  // its thread may outlive main
  return n;
}

void run_notifier() {
  is_notifier = true;
  Notifier& n = notifier();
  std::unique_lock lock(n.mutex);
  for (;;) {
    n.wake.wait(lock, [&] { return !n.callbacks.empty(); });
    std::function<void()> callback = std::move(n.callbacks.front());
    n.callbacks.pop_front();
    n.busy = true;
    lock.unlock();
    callback();
    callback = nullptr;
    lock.lock();
    n.busy = false;
    n.idle.notify_all();
  }
}

}  // namespace

bool forked() { return in_child; }

void check_not_forked() {
  if (in_child)
    throw DeviceError(
        "this process was forked after a device was used; use the device only in the "
        "child, or start the child with the \"spawn\" method");
}

std::unique_lock<std::mutex> lock_unless_forked(std::mutex& mutex) {
  if (!forked()) return std::unique_lock(mutex);
  std::unique_lock lock(mutex, std::try_to_lock);
  if (!lock) check_not_forked();
  return lock;
}

CommandQueue::CommandQueue() {
  watch_forks();
  std::thread(&CommandQueue::work, this).detach();  // queues live as long as the process
}

void CommandQueue::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return first_ != nullptr && !busy_; });
    Task& task = *first_;
    first_ = task.next_;
    busy_ = true;
    lock.unlock();
    task.run();
    lock.lock();
    busy_ = false;
    if (first_ == nullptr) idle_.notify_all();
  }
}

void CommandQueue::submit(Task& task) {
  check_not_forked();
  {
    const std::lock_guard lock(mutex_);
    task.next_ = nullptr;
    (first_ == nullptr ? first_ : last_->next_) = &task;
    last_ = &task;
  }
  wake_.notify_one();
}

bool CommandQueue::try_run(Task& task) {
  check_not_forked();
  {
    const std::lock_guard lock(mutex_);
    if (busy_ || first_ != nullptr) return false;
    busy_ = true;
  }
  task.run();
  release();
  return true;
}

void CommandQueue::release() {
  bool waiting;
  {
    const std::lock_guard lock(mutex_);
    busy_ = false;
    waiting = first_ != nullptr;
  }
  if (waiting)
    wake_.notify_one();
  else
    idle_.notify_all();
}

void CommandQueue::run(const std::function<void()>& body) {
  check_not_in_host_call();
  CallTask task(body);
  submit(task);
  task.wait();
}

void CommandQueue::drain() {
  if (forked()) return;
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return first_ == nullptr && !busy_; });
}

HostCall::HostCall() { is_host_call = true; }
HostCall::~HostCall() { is_host_call = false; }
bool in_host_call() { return is_host_call; }

void check_not_in_host_call() {
  if (is_host_call)
    throw DeviceError(
        "inside an update on the host nothing can be encoded, awaited, read or written: use the "
        "arrays it is given");
}

void notify(std::function<void()> callback) {
  Notifier& n = notifier();
  {
    const std::lock_guard lock(n.mutex);
    n.callbacks.push_back(std::move(callback));
    if (!n.started) {
      n.started = true;
      std::thread(run_notifier).detach();
    }
  }
  n.wake.notify_one();
}

bool on_notifier_thread() { return is_notifier; }

void drain_notifier() {
  if (forked()) return;
  Notifier& n = notifier();
  std::unique_lock lock(n.mutex);
  n.idle.wait(lock, [&] { return n.callbacks.empty() && !n.busy; });
}

}  // namespace mpsnn::runtime
