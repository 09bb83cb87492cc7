// Work sharing inside the queue thread: OpenMP where oneDNN uses it (one team for both), a small
// pool elsewhere. Outside a queue thread everything runs on the caller.
#pragma once

#include <cstdint>
#include <type_traits>

namespace mpsnn::threads {

// Of the calling thread's team; 1 on every thread that has not called set_team.
int team();
void set_team(int count);  // queue threads only

int requested();          // what set_num_threads asked for, else OMP_NUM_THREADS, else all cores
void request(int count);  // ValueError below 1

// Calls body(begin, end) on disjoint pieces that cover 0..n, at least `grain` each, one per thread.
// The split depends on n, grain and team() only.
using RangeBody = void (*)(void* context, int64_t begin, int64_t end);
void parallel(int64_t n, int64_t grain, RangeBody body, void* context);

template <class F>
void parallel_for(int64_t n, int64_t grain, F&& body) {
  using Body = std::remove_reference_t<F>;
  parallel(
      n, grain,
      [](void* context, int64_t begin, int64_t end) { (*static_cast<Body*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace mpsnn::threads
