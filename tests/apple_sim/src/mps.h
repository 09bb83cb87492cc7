// What the simulated MPS classes share: images as closures see them, dense tensors, and the hooks
// that a kernel class fills in. The base classes do the checks, read counts and geometry.
#pragma once
#include <cfloat>
#include <climits>
#include <cmath>
#include <string>

#import "sim.h"

namespace apple_sim {
// One image of the texture array behind an MPSImage. Channels lie in fours; the lanes that pad the
// last four are never read or written by a kernel, and hold NaN from the start.
struct ImageRef {
  StorePtr store;
  long width = 0, height = 0, channels = 0, lanes = 4, first_layer = 0;
  bool half = false;
  size_t at(long x, long y, long c) const {
    return static_cast<size_t>((((first_layer + c / 4) * height + y) * width + x) * lanes + c % 4);
  }
};
struct Tensor {  // [y][x][c]
  long h = 0, w = 0, c = 0;
  std::vector<float> v;
  Tensor() = default;
  Tensor(long height, long width, long channels)
      : h(height), w(width), c(channels), v(static_cast<size_t>(h * w * c)) {}
  float* at(long y, long x) { return v.data() + (y * w + x) * c; }
  const float* at(long y, long x) const { return v.data() + (y * w + x) * c; }
};
Tensor load(const ImageRef& image, long first_channel = 0, long max_channels = LONG_MAX);
// Writes t to the image at (x, y) and first_channel; halves are rounded.
void store(const ImageRef& image, const Tensor& t, long x = 0, long y = 0, long first_channel = 0);

inline size_t element_size(MPSDataType t) { return (t & 0xffff) >> 3; }
struct MatrixView {  // one matrix as a closure sees it
  StorePtr store;
  size_t base, row_bytes;
  bool half;
  // Whether rows x columns from here share memory with those of another matrix. Two matrices may
  // lie in one buffer.
  bool meets(size_t rows, size_t columns, const MatrixView& o, size_t o_rows,
             size_t o_columns) const;
  float get(size_t r, size_t c) const;
  void set(size_t r, size_t c, float v) const;
};
MatrixView view(MPSMatrix* m, MTLOrigin origin = {0, 0, 0}, NSUInteger index = 0);

struct Window {  // one dimension of a filter
  long k = 1, s = 1, d = 1, o = 0;
  long dilated() const { return (k - 1) * d + 1; }
  long start(long i) const {
    return o + s * i - dilated() / 2;
  }  // source position of the first tap
};
struct Geometry {
  Window x, y;
  bool clamp = false;
};

using Unary = std::function<void(const Tensor& x, Tensor& y, long image)>;
using Binary = std::function<void(const Tensor& a, const Tensor& b, Tensor& y, long image)>;

// What a forward encode leaves for the gradient kernel that takes its geometry from the state.
struct Forward {
  Geometry geometry;
  long width = 0, height = 0;          // of the source
  long out_width = 0, out_height = 0;  // of what was written
  const void* command_buffer = nullptr;
};
// The part of x that a pixelwise kernel with this geometry reads.
Tensor crop(const Tensor& x, const Geometry& g, long h, long w);

struct Neuron {
  int type = 0;
  float a = 0, b = 0, c = 0;
  std::vector<float> slopes;
  float value(float x, long channel) const;
  float derivative(float x, long channel) const;
};
Neuron neuron_of(MPSNNNeuronDescriptor* descriptor);
std::vector<float> copy_floats(const StorePtr& store, size_t offset, size_t count);
}  // namespace apple_sim

@interface MPSKernel () {
 @public
  std::atomic<int> _busy;
}
@end
@interface MPSImage () {
 @public
  apple_sim::TemporaryPtr _temporary;
}
- (apple_sim::ImageRef)simRef;
- (instancetype)initWithSimDevice:(id<MTLDevice>)device
                       descriptor:(const MPSImageDescriptor*)descriptor
                        temporary:(apple_sim::TemporaryPtr)temporary;
@end
@interface MPSState () {
 @public
  apple_sim::TemporaryPtr _temporary;
  NSMutableArray<id<MTLResource>>* _resources;
}
// A state of a kernel: with a command buffer, a temporary one.
- (instancetype)initWithSimDevice:(id<MTLDevice>)device commandBuffer:(id<MTLCommandBuffer>)cb;
- (apple_sim::StorePtr)simAddBuffer:(size_t)bytes;
@end

@interface MPSNNGradientState () {
 @public
  apple_sim::Forward _forward;
}
@end

@interface MPSCNNKernel ()
- (void)simSetKernelWidth:(NSUInteger)kw
                   height:(NSUInteger)kh
                  strideX:(NSUInteger)sx
                  strideY:(NSUInteger)sy
                dilationX:(NSUInteger)dx
                dilationY:(NSUInteger)dy;
- (apple_sim::Geometry)simGeometry;
- (NSUInteger)simChannelsFor:(NSUInteger)sourceChannels;
- (MPSState*)simStateOn:(id<MTLCommandBuffer>)cb source:(MPSImage*)source;  // nil cb: not temporary
- (MPSStateBatch*)simStates:(id<MTLCommandBuffer>)cb for:(MPSImageBatch*)sources;
- (apple_sim::Unary)simUnary:(MPSStateBatch*)states;
// One encode: every check, then one command.
- (void)simEncode:(id<MTLCommandBuffer>)cb
          sources:(MPSImageBatch*)sources
           states:(MPSStateBatch*)states
     destinations:(MPSImageBatch*)destinations;
- (apple_sim::Stores)simWrites:(MPSStateBatch*)states;  // what the forward pass leaves in states
@end
@interface MPSCNNBinaryKernel ()
- (NSUInteger)simChannelsFor:(NSUInteger)primaryChannels secondary:(NSUInteger)secondaryChannels;
- (void)simEncode:(id<MTLCommandBuffer>)cb
        primaries:(MPSImageBatch*)primaries
      secondaries:(MPSImageBatch*)secondaries
           states:(MPSStateBatch*)states
     destinations:(MPSImageBatch*)destinations;
- (apple_sim::Binary)simBinary:(MPSStateBatch*)states;
- (bool)simWritesDestination;
- (MPSImageBatch*)simAllocate:(id<MTLCommandBuffer>)cb
                         like:(MPSImage*)like
                     channels:(NSUInteger)channels
                        count:(NSUInteger)count;
- (apple_sim::Stores)simWrites:(MPSStateBatch*)states;
@end
@interface MPSCNNGradientKernel ()
- (void)simAdopt:(MPSState*)state;  // returning encodes take their geometry from the state
@end

namespace apple_sim {
// Checks of one encode; they record what is wrong and let the encode go on.
void check_batch(id kernel, MPSImageBatch* batch, const char* what);
void check_read(id kernel, id<MTLCommandBuffer> cb, MPSImageBatch* batch);
void check_write(id kernel, id<MTLCommandBuffer> cb, MPSImageBatch* batch);
void consume_images(id<MTLCommandBuffer> cb, MPSImageBatch* batch);
void check_states(id kernel, id<MTLCommandBuffer> cb, MPSStateBatch* states, const char* verb);
void consume_states(id<MTLCommandBuffer> cb, MPSStateBatch* states);
std::vector<ImageRef> refs(MPSImageBatch* batch);
Stores stores(MPSImageBatch* batch);
}  // namespace apple_sim
