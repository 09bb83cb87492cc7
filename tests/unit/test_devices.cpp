// Each device of this build trains the self-test's network, also from two threads at once.
#include <doctest/doctest.h>

#include <string>
#include <thread>

#include "mpsnn/device.h"

TEST_CASE("devices pass their self-test from two threads") {
  for (const mpsnn::Device& device : mpsnn::devices()) {
    CAPTURE(device.id());
    std::string wrong[2];
    std::thread other([&] { wrong[1] = mpsnn::self_test(device.id()); });
    wrong[0] = mpsnn::self_test(device.id());
    other.join();
    CHECK(wrong[0] == "");
    CHECK(wrong[1] == "");
  }
  mpsnn::drain();
}
