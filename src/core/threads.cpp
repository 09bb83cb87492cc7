// A team belongs to the thread that asked for it, so that graphs on several devices never share
// one.
//
// With MPSNN_OPENMP the team is OpenMP's, the one oneDNN uses. Without, each queue thread keeps a
// small pool, which spins for a moment between jobs and then sleeps. After a fork neither has its
// threads: whoever had a team before works alone in the child, only threads born there get new
// ones.
#include "core/threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>

#include "core/host_info.h"
#include "mpsnn/error.h"

#ifdef MPSNN_OPENMP
#include <omp.h>
#else
#include <condition_variable>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>
#endif

namespace mpsnn::threads {
namespace {

std::atomic<unsigned> forks{0};  // this process is that many forks away from the first

void watch_forks() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);
}

// n items in `pieces` nearly equal pieces, dealt to `threads` threads.
struct Job {
  RangeBody body;
  void* context;
  int64_t n;
  int pieces;
  std::mutex mutex;
  std::exception_ptr error;  // the first one

  void work(int thread, int threads) noexcept {
    const int64_t each = n / pieces, extra = n % pieces;
    for (int piece = thread; piece < pieces; piece += threads) {
      const int64_t begin = piece * each + std::min<int64_t>(piece, extra);
      try {
        body(context, begin, begin + each + (piece < extra ? 1 : 0));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
};

#ifdef MPSNN_OPENMP

// Always the whole team, even for fewer pieces: libgomp ends the threads a smaller team leaves
// over.
void share(Job& job, int team) {
#pragma omp parallel num_threads(team)
  job.work(omp_get_thread_num(), omp_get_num_threads());
}

#else

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  explicit Pool(int team) : born_(forks) {
    try {
      for (int i = 1; i < team; ++i) workers_.emplace_back([this, i] { serve(i); });
    } catch (const std::system_error&) {
      // The system gives no more threads; those that are there do all the pieces.
    }
    threads_ = static_cast<int>(workers_.size()) + 1;
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      epoch_.fetch_add(1, std::memory_order_release);
    }
    ready_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  bool lost() const { return born_ != forks; }
  bool busy() const { return busy_; }

  void run(Job& job) {
    busy_ = true;
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      pending_.store(threads_ - 1, std::memory_order_relaxed);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    ready_.notify_all();
    job.work(0, threads_);
    const auto done = [&] { return pending_.load(std::memory_order_acquire) == 0; };
    if (!spin(done)) {
      std::unique_lock lock(mutex_);
      finished_.wait(lock, done);
    }
    busy_ = false;
  }

 private:
  template <class F>
  static bool spin(F&& done) {
    for (int i = 0; i < 4000; ++i) {  // some 20 to 100 microseconds
      if (done()) return true;
      pause();
    }
    return false;
  }

  void serve(int thread) {
    for (unsigned seen = 0;;) {
      const auto called = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
      spin(called);
      Job* job;
      int threads;
      {
        std::unique_lock lock(mutex_);
        ready_.wait(lock, called);
        if (stop_) return;
        seen = epoch_.load(std::memory_order_relaxed);
        job = job_;
        threads = threads_;
      }
      job->work(thread, threads);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard lock(mutex_);
        finished_.notify_one();
      }
    }
  }

  const unsigned born_;
  int threads_ = 1;
  bool busy_ = false, stop_ = false;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable ready_, finished_;
  std::atomic<unsigned> epoch_{0};
  std::atomic<int> pending_{0};
  Job* job_ = nullptr;
};

// Leaves a pool that a fork has robbed of its threads alone: nothing of it can be waited for.
struct Forget {
  void operator()(Pool* pool) const {
    if (!pool->lost()) delete pool;
  }
};

thread_local std::unique_ptr<Pool, Forget> pool;
thread_local int pool_team = 0;

void share(Job& job, int team) {
  if (pool && pool->busy()) return job.work(0, 1);  // a body that shares its own work
  if (pool_team != team) {
    pool.reset(new Pool(team));
    pool_team = team;
  }
  pool->run(job);
}

#endif

struct Caller {
  int team = 1;
  bool asked = false;  // for a team, once, in process `born`
  unsigned born = 0;
};
thread_local Caller caller;

constexpr int kMost = 1024;
std::atomic<int> wanted{0};

int default_count() {
  // What job schedulers and users of any other numerical library set.
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const long count = std::strtol(text, nullptr, 10);
    if (count >= 1 && count <= kMost) return static_cast<int>(count);
  }
  return host::physical_cores();
}

}  // namespace

int team() { return caller.team > 1 && caller.born == forks ? caller.team : 1; }

void set_team(int count) {
  if (!caller.asked) {
    watch_forks();
    caller.asked = true;
    caller.born = forks;
  }
  caller.team = std::max(1, count);
#ifdef MPSNN_OPENMP
  omp_set_num_threads(team());
#endif
}

int requested() {
  if (const int count = wanted) return count;
  static const int count = default_count();
  return count;
}

void request(int count) {
  // No more than a system gives: OpenMP ends the process when it cannot make a thread.
  if (count < 1 || count > kMost) {
    throw ValueError("the number of threads must be in 1.." + std::to_string(kMost) + ", got " +
                     std::to_string(count));
  }
  wanted = count;
}

void parallel(int64_t n, int64_t grain, RangeBody body, void* context) {
  if (n <= 0) return;
  const auto pieces =
      static_cast<int>(std::clamp<int64_t>(n / std::max<int64_t>(1, grain), 1, team()));
  if (pieces == 1) return body(context, 0, n);
  Job job{body, context, n, pieces, {}, {}};
  share(job, team());
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace mpsnn::threads
