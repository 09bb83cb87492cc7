// Kernels of the stand-in's own tests, in the common subset of Metal and C++.
#ifdef __METAL_VERSION__
#include <metal_stdlib>
using namespace metal;
#endif

struct ScaleParameters {
  float factor;
  uint count;
};

kernel void scale(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                  constant ScaleParameters& p [[buffer(2)]], uint id [[thread_position_in_grid]]) {
  if (id < p.count) y[id] = p.factor * x[id];
}

kernel void overrun(device float* y [[buffer(0)]], uint id [[thread_position_in_grid]]) {
  y[id] = half(float(id));
}
