// Work sharing: exact cover, the promised split, errors, nesting, many teams at once, and forks.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/threads.h"
#include "mpsnn/error.h"

using namespace mpsnn;

namespace {

// Runs `body` on a thread of its own with a team, as a queue thread does.
template <class Body>
void on_queue_thread(int team, Body&& body) {
  std::thread([&] {
    threads::set_team(team);
    body();
  }).join();
}

using Pieces = std::set<std::pair<int64_t, int64_t>>;

Pieces pieces_of(int64_t n, int64_t grain) {
  std::mutex mutex;
  Pieces pieces;
  threads::parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    pieces.insert({begin, end});
  });
  return pieces;
}

}  // namespace

TEST_CASE("a thread that asked for no team works alone") {
  std::thread([] {
    CHECK(threads::team() == 1);
    const auto here = std::this_thread::get_id();
    threads::parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
      CHECK(begin == 0);
      CHECK(end == 1000);
      const bool same = std::this_thread::get_id() == here;
      CHECK(same);
    });
  }).join();
  on_queue_thread(2, [] { CHECK(threads::team() == 2); });
  CHECK(threads::team() == 1);
}

TEST_CASE("pieces cover the range once, are large enough, and do not depend on chance") {
  for (const int team : {1, 2, 3, 8}) {
    on_queue_thread(team, [&] {
      for (const int64_t n : {0, 1, 2, 7, 64, 1001}) {
        for (const int64_t grain : {0, 1, 5, 64, 5000}) {
          CAPTURE(team);
          CAPTURE(n);
          CAPTURE(grain);
          const Pieces pieces = pieces_of(n, grain);
          int64_t at = 0;
          bool right = true;
          for (const auto& [begin, end] : pieces) {
            right = right && begin == at && end > begin && (end - begin >= grain || n < grain);
            at = end;
          }
          CHECK(right);
          CHECK(at == n);
          CHECK(static_cast<int>(pieces.size()) <= team);
          if (n >= team && grain <= 1) CHECK(static_cast<int>(pieces.size()) == team);
          const bool again = pieces == pieces_of(n, grain);
          CHECK(again);
        }
      }
    });
  }
}

TEST_CASE("two threads of a team work at the same time") {
  on_queue_thread(2, [] {
    std::atomic<int> here{0};
    std::atomic<bool> met{true};
    threads::parallel_for(2, 1, [&](int64_t, int64_t) {
      ++here;
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (here < 2) {
        if (std::chrono::steady_clock::now() > end) {
          met = false;
          return;
        }
        std::this_thread::yield();
      }
    });
    CHECK(met);
  });
}

TEST_CASE("many short jobs, with the team growing and shrinking between them") {
  on_queue_thread(2, [] {
    std::vector<int64_t> values(97);
    for (int job = 0; job < 3000; ++job) {
      if (job % 300 == 299) threads::set_team(1 + job / 300 % 4);
      if (job % 500 == 499) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      threads::parallel_for(97, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] += i;
      });
    }
    bool right = true;
    for (std::size_t i = 0; i < values.size(); ++i) {
      right = right && values[i] == 3000 * static_cast<int64_t>(i);
    }
    CHECK(right);
  });
}

TEST_CASE("an exception of a body reaches the caller, and the team goes on") {
  for (const int team : {1, 2, 4}) {
    on_queue_thread(team, [] {
      for (int64_t bad = 0; bad < 4; ++bad) {
        CHECK_THROWS_AS(threads::parallel_for(4, 1,
                                              [&](int64_t begin, int64_t end) {
                                                if (begin <= bad && bad < end) {
                                                  throw std::range_error("bad");
                                                }
                                              }),
                        std::range_error);
      }
      CHECK(pieces_of(100, 100).size() == 1);
      CHECK(static_cast<int>(pieces_of(100, 1).size()) == threads::team());
    });
  }
}

TEST_CASE("a body may share its own work") {
  on_queue_thread(2, [] {
    std::atomic<int64_t> sum{0};
    threads::parallel_for(10, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        threads::parallel_for(100, 1, [&](int64_t b, int64_t e) { sum += e - b; });
      }
    });
    CHECK(sum == 1000);
  });
}

TEST_CASE("queue threads do not disturb each other") {
  std::vector<std::thread> queues;
  std::atomic<int64_t> sum{0};
  for (int queue = 0; queue < 3; ++queue) {
    queues.emplace_back([&, queue] {
      threads::set_team(queue + 1);
      for (int job = 0; job < 500; ++job) {
        threads::parallel_for(64, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
      }
      CHECK(threads::team() == queue + 1);
    });
  }
  for (std::thread& queue : queues) queue.join();
  CHECK(sum == 3 * 500 * 64);
}

TEST_CASE("the wanted number of threads is kept, and must be positive") {
  const int before = threads::requested();
  CHECK(before >= 1);
  threads::request(3);
  CHECK(threads::requested() == 3);
  CHECK_THROWS_AS(threads::request(0), ValueError);
  CHECK_THROWS_AS(threads::request(-2), ValueError);
  CHECK(threads::requested() == 3);
  threads::request(before);
}

#if !defined(__SANITIZE_THREAD__)  // which allows no threads after a fork
namespace {

// Runs `body` in a forked child; whether it returned true within 20 seconds.
template <class Body>
bool in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    const bool right = body();
    _exit(right ? 0 : 1);
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("after a fork new threads get teams, old ones work alone, and nobody hangs") {
  on_queue_thread(2, [] {
    CHECK(pieces_of(10, 1).size() == 2);
    CHECK(in_child([] {
      const bool alone = threads::team() == 1 && pieces_of(10, 1).size() == 1;
      threads::set_team(2);
      bool shared = false;
      on_queue_thread(2, [&] { shared = pieces_of(10, 1).size() == 2; });
      return alone && threads::team() == 1 && pieces_of(10, 1).size() == 1 && shared;
    }));
    CHECK(pieces_of(10, 1).size() == 2);
  });
  CHECK(in_child([] {
    bool shared = false;
    on_queue_thread(2, [&] { shared = pieces_of(10, 1).size() == 2; });
    return shared;
  }));
}
#endif
