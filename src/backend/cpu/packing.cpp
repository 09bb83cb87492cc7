#include "backend/cpu/packing.h"

#include <algorithm>
#include <cstring>

namespace mpsnn::backend::cpu {
namespace {

constexpr int64_t kBlock = 16;

// Where the elements of one dimension are: its blocks from the innermost outwards, then its stride.
std::vector<int64_t> offsets(const dnnl::memory::desc& d, int dimension) {
  const auto sizes = d.get_inner_blks(), owners = d.get_inner_idxs();
  std::vector<int64_t> at(
      static_cast<std::size_t>(d.get_dims()[static_cast<std::size_t>(dimension)]));
  for (std::size_t i = 0; i < at.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    int64_t inside = 1;
    for (std::size_t k = sizes.size(); k-- > 0; inside *= sizes[k])
      if (owners[k] == dimension) {
        at[i] += rest % sizes[k] * inside;
        rest /= sizes[k];
      }
    at[i] += rest * d.get_strides()[static_cast<std::size_t>(dimension)];
  }
  return at;
}

// Whether at[i] - at[i - i % width] is step * (i % width) everywhere.
bool runs(const std::vector<int64_t>& at, int64_t width, int64_t step) {
  if (static_cast<int64_t>(at.size()) % width != 0) return false;
  for (std::size_t i = 0; i < at.size(); ++i) {
    const auto inside = static_cast<int64_t>(i) % width;
    if (at[i] - at[i - static_cast<std::size_t>(inside)] != step * inside) return false;
  }
  return true;
}

// How many channels lie one after the other, in pairs if there are two outputs or inputs together.
int64_t widest(const std::vector<int64_t>& at, int64_t step) {
  for (const int64_t width : {64, 48, 32, 16})
    if (runs(at, width, step)) return width;
  return 0;
}

}  // namespace

Packing::Packing(Builder& b, const dnnl::memory::desc& from, runtime::Ref source,
                 const dnnl::memory::desc& to, runtime::Ref target)
    : bfloat_(to.get_data_type() == dnnl::memory::data_type::bf16),
      source_(source),
      target_(target) {
  const auto dims = to.get_dims();
  if (dims.size() == 4 && to.get_padded_dims() == dims) {
    outputs_ = dims[0], inputs_ = dims[1], across_ = dims[3], taps_ = dims[2] * dims[3];
    row_ = to.get_strides()[2], column_ = to.get_strides()[3];
    output_ = offsets(to, 0), input_ = offsets(to, 1);
    const int64_t step = bfloat_ ? 2 : 1;
    if (runs(output_, kBlock, step) && (!bfloat_ || runs(input_, 2, 1))) {
      order_ = Order::outputs;
      const int64_t next = inputs_ > step ? input_[static_cast<std::size_t>(step)] : 0;
      std::vector<int64_t> firsts;
      for (int64_t i = 0; i < inputs_; i += step)
        firsts.push_back(input_[static_cast<std::size_t>(i)]);
      const auto all = static_cast<int64_t>(firsts.size());
      width_ = runs(firsts, all, next) ? all : runs(firsts, kBlock, next) ? kBlock : 0;
      if (width_ == 0) order_ = Order::other;
    } else if ((width_ = widest(input_, step)) > 0 && (!bfloat_ || runs(output_, 2, 1))) {
      order_ = Order::inputs;
    }
  }
  if (order_ == Order::other) {
    other_ = reorder(b, from, source, to, target);
  } else if (order_ == Order::outputs && bfloat_) {
    const int64_t halves = threads::team() * kBlock * inputs_;
    turned_ = b.scratch(static_cast<std::size_t>(halves) * sizeof(uint16_t));
  }
}

void Packing::run() {
  switch (order_) {
    case Order::other:
      return other_.run();
    case Order::outputs:
      return run_outputs();
    case Order::inputs:
      return run_inputs();
  }
}

// Blocks of outputs are transposed.
void Packing::run_outputs() {
  const auto* w = source_.get<float>();
  auto* to = target_.get<char>();
  const int64_t size = bfloat_ ? 2 : 4, step = bfloat_ ? 2 : 1, ldw = taps_ * inputs_;
  const int64_t next = inputs_ > step ? input_[static_cast<std::size_t>(step)] * size / 4 : 0;
  const int64_t blocks = outputs_ / kBlock, parts = std::min<int64_t>(threads::team(), blocks);
  threads::parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part)
      for (int64_t i = blocks * part / parts * taps_; i < blocks * (part + 1) / parts * taps_;
           ++i) {
        const int64_t o = i / taps_ * kBlock, t = i % taps_;
        const float* from = w + o * ldw + t * inputs_;
        int64_t ldx = ldw;
        if (bfloat_) {
          auto* turned = turned_.get<uint16_t>() + part * kBlock * inputs_;
          for (int64_t r = 0; r < kBlock; ++r)
            select().to_bfloat(from + r * ldw, turned + r * inputs_, inputs_);
          from = reinterpret_cast<const float*>(turned);  // a pair each
          ldx = inputs_ / 2;
        }
        char* block = to + size * (output_[static_cast<std::size_t>(o)] + t / across_ * row_ +
                                   t % across_ * column_);
        for (int64_t k = 0; k < inputs_ / step; k += width_)
          select().transpose(
              from + k, ldx, kBlock, width_,
              reinterpret_cast<float*>(block + size * input_[static_cast<std::size_t>(k * step)]),
              next);
      }
  });
}

// Runs of inputs are copied.
void Packing::run_inputs() {
  const auto* w = source_.get<float>();
  auto* to = target_.get<char>();
  const int64_t size = bfloat_ ? 2 : 4, step = bfloat_ ? 2 : 1, ldw = taps_ * inputs_;
  threads::parallel_for(outputs_ / step, 1 + 16384 / ldw, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin * step; o < end * step; o += step)
      for (int64_t t = 0; t < taps_; ++t) {
        const float* from = w + o * ldw + t * inputs_;
        char* row = to + size * (output_[static_cast<std::size_t>(o)] + t / across_ * row_ +
                                 t % across_ * column_);
        for (int64_t i = 0; i < inputs_; i += width_) {
          char* at = row + size * input_[static_cast<std::size_t>(i)];
          if (bfloat_)
            select().to_bfloat_pairs(from + i, from + ldw + i, reinterpret_cast<uint32_t*>(at),
                                     width_);
          else
            std::memcpy(at, from + i, static_cast<std::size_t>(width_) * sizeof(float));
        }
      }
  });
}

}  // namespace mpsnn::backend::cpu
