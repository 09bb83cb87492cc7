// Runs the stand-in's own tests: every expectation is worked by hand; the section of the reference
// it follows from is named in the test. A test that leaves a violation or a missing pool fails.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#import "check.h"

namespace {
struct Test {
  const char* name;
  std::function<void()> body;
};
std::vector<Test>& tests() {
  static auto* v = new std::vector<Test>;
  return *v;
}
int failures = 0;
}  // namespace

bool add_test(const char* name, std::function<void()> body) {
  tests().push_back({name, std::move(body)});
  return true;
}
void fail(const char* file, int line, const std::string& what) {
  std::printf("  %s:%d: %s\n", file, line, what.c_str());
  ++failures;
}
void near(const char* file, int line, const std::vector<float>& got, const std::vector<float>& want,
          float tolerance) {
  bool same = got.size() == want.size();
  for (size_t i = 0; same && i < got.size(); ++i)
    same = std::isnan(want[i])
               ? std::isnan(got[i])
               : std::fabs(got[i] - want[i]) <= tolerance * std::max(1.f, std::fabs(want[i]));
  if (same) return;
  std::string text = "got";
  for (float x : got) text += " " + std::to_string(x);
  text += ", want";
  for (float x : want) text += " " + std::to_string(x);
  fail(file, line, text);
}
void expect_violation(const char* file, int line, const char* text,
                      const std::function<void()>& body) {
  @autoreleasepool {
    body();
  }
  const long n = apple_sim_violations();
  if (n == 0) fail(file, line, std::string("no violation; expected: ") + text);
  bool found = n == 0;
  for (long i = 0; i < n; ++i) found |= std::strstr(apple_sim_violation(i), text) != nullptr;
  if (!found) fail(file, line, std::string("another violation: ") + apple_sim_violation(0));
  apple_sim_clear_violations();
}

int main() {
  setenv("APPLE_SIM_DEVICES", "discrete,unified,removable", 1);
  @autoreleasepool {
    queue();
  }
  for (const Test& t : tests()) {
    const int before = failures;
    const long pools = apple_sim_missing_pools(), buffers = apple_sim_live_buffers();
    @try {
      @autoreleasepool {
        t.body();
      }
    } @catch (NSException* e) {
      fail(t.name, 0, e.reason.UTF8String);
    }
    for (long i = 0; i < apple_sim_violations(); ++i) fail(t.name, 0, apple_sim_violation(i));
    apple_sim_clear_violations();
    if (apple_sim_missing_pools() != pools) fail(t.name, 0, "an autorelease without a pool");
    for (int i = 0; i < 1000 && apple_sim_live_buffers() != buffers; ++i)
      usleep(1000);  // the queue's thread lets go of a command buffer after its completion
    if (apple_sim_live_buffers() != buffers) fail(t.name, 0, "buffers left alive");
    std::printf("%s %s\n", failures == before ? "ok    " : "FAILED", t.name);
  }
  std::printf("%zu tests, %d failures\n", tests().size(), failures);
  return failures != 0;
}
