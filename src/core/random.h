// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a counter in,
// four random words out, so that any element of any mask can be drawn alone, on any device, in any
// order.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace mpsnn {

using Philox = std::array<uint32_t, 4>;

inline Philox philox(Philox counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0], b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(a)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// FNV-1a of a layer path: the part of a dropout's key that tells layers apart.
constexpr uint32_t path_hash(std::string_view path) {
  uint32_t hash = 2166136261u;
  for (const char c : path) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

// Dropout, on every device but mps: element e of image n at step s of layer path p is kept when
// word e % 4 of philox({e / 4, n, s, path_hash(p)}, seed) >= keep_threshold(rate).
inline Philox dropout_words(uint64_t seed, uint32_t path, int64_t step, int64_t image,
                            int64_t block) {
  return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(image),
                 static_cast<uint32_t>(step), path},
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}
inline uint32_t dropout_threshold(double rate) {  // dropped below it
  return static_cast<uint32_t>(rate * 4294967296.0);
}

}  // namespace mpsnn
