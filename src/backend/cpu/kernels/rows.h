// Several rows at a time: those of few values side by side, one to a lane.
#pragma once

#include "backend/cpu/kernels/kernels.h"

namespace mpsnn::backend::cpu::MPSNN_ISA {
namespace {

// Rows of no more values may be taken side by side, if they are one behind the other.
constexpr int64_t kNarrow = 64;
inline bool are_narrow(int64_t rows, int64_t c) { return c <= kNarrow && rows >= kLanes; }

// The columns of kLanes rows of c values.
class Columns {
 public:
  explicit Columns(int64_t c) : c_(c) {}
  void read(const float* rows) { transpose(rows, c_, kLanes, c_, at_, kLanes); }
  void write(float* rows) const { transpose(at_, kLanes, c_, kLanes, rows, c_); }
  Vec operator[](int64_t k) const { return load(at_ + k * kLanes); }
  void set(int64_t k, Vec v) { store(at_ + k * kLanes, v); }

 private:
  int64_t c_;
  alignas(sizeof(Vec)) float at_[kNarrow * kLanes];
};

// What is left of a row of c >= kLanes values behind its whole vectors: the end of the vector at
// `at`, of which the beginning is in another one.
struct Rest {
  explicit Rest(int64_t c) : whole(c / kLanes * kLanes), at(c - kLanes), any(whole < c) {
    for (int l = 0; l < kLanes; ++l) keep[l] = at + l >= whole ? -1 : 0;
  }
  Vec of(Vec v, float other) const { return keep ? v : Vec{} + other; }
  int64_t whole, at;
  bool any;
  Lanes keep;
};

}  // namespace
}  // namespace mpsnn::backend::cpu::MPSNN_ISA
