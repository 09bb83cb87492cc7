// Philox against the known answers of its authors (Random123, kat_vectors), and the dropout scheme.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "core/random.h"

using namespace mpsnn;

TEST_CASE("philox4x32-10 gives the known answers") {
  CHECK(philox({0, 0, 0, 0}, 0, 0) == Philox{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffff, 0xffffffff) ==
        Philox{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
        Philox{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("path_hash is 32-bit FNV-1a") {
  CHECK(path_hash("") == 0x811c9dc5u);
  CHECK(path_hash("a") == 0xe40c292cu);
  CHECK(path_hash("foobar") == 0xbf9cf968u);
}

TEST_CASE("a dropout word depends on seed, layer, step, image and block") {
  const uint32_t path = path_hash("9");
  const std::set<Philox> words{
      dropout_words(1, path, 2, 3, 4),
      dropout_words(2, path, 2, 3, 4),
      dropout_words(1 + (uint64_t{1} << 32), path, 2, 3, 4),
      dropout_words(1, path_hash("10"), 2, 3, 4),
      dropout_words(1, path, 3, 3, 4),
      dropout_words(1, path, 2, 4, 4),
      dropout_words(1, path, 2, 3, 5),
  };
  CHECK(words.size() == 7);
  CHECK(dropout_words(0x0807060504030201, 5, 2, 3, 4) ==
        philox({4, 3, 2, 5}, 0x04030201, 0x08070605));
}

TEST_CASE("the dropout threshold drops the asked share") {
  CHECK(dropout_threshold(0) == 0);
  CHECK(dropout_threshold(0.5) == 0x80000000u);
  CHECK(dropout_threshold(1 - 0x1p-40) == 0xffffffffu);
  for (const double rate : {0.1, 0.5, 0.9}) {
    CAPTURE(rate);
    constexpr int blocks = 50000;
    int dropped = 0;
    for (int block = 0; block < blocks; ++block) {
      for (const uint32_t word : dropout_words(7, path_hash("dropout"), 0, 0, block)) {
        dropped += word < dropout_threshold(rate);
      }
    }
    // Five standard deviations of 200,000 draws are at most 0.0056.
    CHECK(std::abs(dropped / (4.0 * blocks) - rate) < 0.0056);
  }
}
