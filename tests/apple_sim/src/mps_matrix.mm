// Matrices, vectors, products, and the copies between images and matrices (mps-reference 1.9, 8).
#include <cstring>

#import "metal_command.h"
#import "mps.h"

using namespace apple_sim;

namespace apple_sim {
bool MatrixView::meets(size_t rows, size_t columns, const MatrixView& o, size_t o_rows,
                       size_t o_columns) const {
  const auto end = [](const MatrixView& v, size_t r, size_t c) {
    return v.base + (r - 1) * v.row_bytes + c * (v.half ? 2 : 4);
  };
  return store == o.store && base < end(o, o_rows, o_columns) && o.base < end(*this, rows, columns);
}
float MatrixView::get(size_t r, size_t c) const {
  const uint8_t* p = store->gpu.data() + base + r * row_bytes;
  return half ? half_to_float(reinterpret_cast<const uint16_t*>(p)[c])
              : reinterpret_cast<const float*>(p)[c];
}
void MatrixView::set(size_t r, size_t c, float v) const {
  uint8_t* p = store->gpu.data() + base + r * row_bytes;
  if (half)
    reinterpret_cast<uint16_t*>(p)[c] = float_to_half(v);
  else
    reinterpret_cast<float*>(p)[c] = v;
}
MatrixView view(MPSMatrix* m, MTLOrigin origin, NSUInteger index) {
  return {store_of(m.data),
          m.offset + index * m.matrixBytes + origin.x * m.rowBytes +
              origin.y * element_size(m.dataType),
          m.rowBytes, m.dataType == MPSDataTypeFloat16};
}
}  // namespace apple_sim

@implementation MPSMatrixDescriptor {
  NSUInteger _count, _stride;
}
+ (instancetype)matrixDescriptorWithRows:(NSUInteger)rows
                                 columns:(NSUInteger)columns
                                rowBytes:(NSUInteger)rowBytes
                                dataType:(MPSDataType)type {
  return [self matrixDescriptorWithRows:rows
                                columns:columns
                               matrices:1
                               rowBytes:rowBytes
                            matrixBytes:rows * rowBytes
                               dataType:type];
}
+ (instancetype)matrixDescriptorWithRows:(NSUInteger)rows
                                 columns:(NSUInteger)columns
                                matrices:(NSUInteger)matrices
                                rowBytes:(NSUInteger)rowBytes
                             matrixBytes:(NSUInteger)matrixBytes
                                dataType:(MPSDataType)type {
  if (rowBytes < columns * element_size(type) || rowBytes % element_size(type) ||
      matrixBytes % rowBytes)
    violate("MPSMatrixDescriptor: rowBytes %lu, matrixBytes %lu for %lu columns", rowBytes,
            matrixBytes, columns);
  MPSMatrixDescriptor* d = [[self alloc] init];
  d.rows = rows;
  d.columns = columns;
  d.rowBytes = rowBytes;
  d.dataType = type;
  d->_count = matrices;
  d->_stride = matrixBytes;
  return d;
}
+ (size_t)rowBytesForColumns:(NSUInteger)columns dataType:(MPSDataType)type {
  return (columns * element_size(type) + 15) / 16 * 16;
}
- (NSUInteger)matrices {
  return _count;
}
- (NSUInteger)matrixBytes {
  return _stride;
}
@end
@implementation MPSVectorDescriptor
+ (instancetype)vectorDescriptorWithLength:(NSUInteger)length dataType:(MPSDataType)type {
  MPSVectorDescriptor* d = [[self alloc] init];
  d.length = length;
  d.dataType = type;
  return d;
}
+ (size_t)vectorBytesForLength:(NSUInteger)length dataType:(MPSDataType)type {
  return length * element_size(type);
}
- (NSUInteger)vectors {
  return 1;
}
- (NSUInteger)vectorBytes {
  return _length * element_size(_dataType);
}
@end

@implementation MPSMatrix
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSMatrixDescriptor*)d {
  if ((self = [super init])) {
    if (!buffer) return nil;
    _data = buffer;
    _device = buffer.device;
    _offset = offset;
    _rows = d.rows;
    _columns = d.columns;
    _matrices = d.matrices;
    _rowBytes = d.rowBytes;
    _matrixBytes = d.matrixBytes;
    _dataType = d.dataType;
    if (offset + (_matrices - 1) * _matrixBytes + (_rows - 1) * _rowBytes +
            _columns * element_size(_dataType) >
        buffer.length)
      violate("MPSMatrix: %lux%lu at %lu passes the end of a buffer of %lu bytes", _rows, _columns,
              offset, buffer.length);
  }
  return self;
}
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer descriptor:(MPSMatrixDescriptor*)descriptor {
  return [self initWithBuffer:buffer offset:0 descriptor:descriptor];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSMatrixDescriptor*)descriptor {
  const size_t bytes = descriptor.matrices * descriptor.matrixBytes;
  return [self initWithBuffer:make_buffer(device, bytes) offset:0 descriptor:descriptor];
}
- (NSUInteger)resourceSize {
  return _data.length;
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)cb {
  sim_synchronize(cb, _data);
}
static void sim_synchronize(id<MTLCommandBuffer> cb, id<MTLBuffer> buffer) {
  if (buffer.storageMode != MTLStorageModeManaged) return;
  id<MTLBlitCommandEncoder> blit = [cb blitCommandEncoder];
  [blit synchronizeResource:buffer];
  [blit endEncoding];
}
@end
@implementation MPSVector
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSVectorDescriptor*)d {
  if ((self = [super init])) {
    if (!buffer) return nil;
    _data = buffer;
    _device = buffer.device;
    _offset = offset;
    _length = d.length;
    _vectors = 1;
    _vectorBytes = d.vectorBytes;
    _dataType = d.dataType;
    if (offset + d.vectorBytes > buffer.length) violate("MPSVector: passes its buffer's end");
  }
  return self;
}
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer descriptor:(MPSVectorDescriptor*)descriptor {
  return [self initWithBuffer:buffer offset:0 descriptor:descriptor];
}
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSVectorDescriptor*)descriptor {
  return [self initWithBuffer:make_buffer(device, descriptor.vectorBytes)
                       offset:0
                   descriptor:descriptor];
}
- (NSUInteger)resourceSize {
  return _data.length;
}
- (void)synchronizeOnCommandBuffer:(id<MTLCommandBuffer>)cb {
  sim_synchronize(cb, _data);
}
@end

namespace {
// Element i of row content: pixel and channel.
template <class F>
void content(const ImageRef& r, bool hwc, F f) {
  for (long y = 0; y < r.height; ++y)
    for (long x = 0; x < r.width; ++x)
      for (long c = 0; c < r.channels; ++c)
        f(static_cast<size_t>(hwc ? (y * r.width + x) * r.channels + c
                                  : (c * r.height + y) * r.width + x),
          y, x, c);
}
void check_fit(id kernel, MPSImageBatch* images, MPSMatrix* m, MTLOrigin o) {
  MPSImage* i = images[0];
  const bool half = i.featureChannelFormat == MPSImageFeatureChannelFormatFloat16;
  if (m.dataType != (half ? MPSDataTypeFloat16 : MPSDataTypeFloat32))
    violate("%s: image and matrix differ in type", name_of(kernel));
  if (o.x + images.count > m.rows || o.y + i.width * i.height * i.featureChannels > m.columns)
    violate("%s: %lu images of %lux%lux%lu do not fit a matrix of %lux%lu", name_of(kernel),
            images.count, i.width, i.height, i.featureChannels, m.rows, m.columns);
}
}  // namespace

@implementation MPSImageCopyToMatrix
- (instancetype)initWithDevice:(id<MTLDevice>)device dataLayout:(MPSDataLayout)layout {
  if ((self = [super initWithDevice:device])) _dataLayout = layout;
  return self;
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceImages:(MPSImageBatch*)sources
                 destinationMatrix:(MPSMatrix*)matrix {
  KernelUse use(_busy, name_of(self));
  check_batch(self, sources, "sources");
  check_read(self, cb, sources);
  check_fit(self, sources, matrix, _destinationMatrixOrigin);
  const MatrixView to = view(matrix, _destinationMatrixOrigin, _destinationMatrixBatchIndex);
  const bool hwc = _dataLayout == MPSDataLayoutHeightxWidthxFeatureChannels;
  encode(cb, name_of(self), self.label, stores(sources), {to.store}, [=, from = refs(sources)] {
    for (size_t n = 0; n < from.size(); ++n) {
      const Tensor t = load(from[n]);
      content(from[n], hwc, [&](size_t i, long y, long x, long c) { to.set(n, i, t.at(y, x)[c]); });
    }
  });  // no read count falls: appendix B
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                  sourceImage:(MPSImage*)source
            destinationMatrix:(MPSMatrix*)matrix {
  [self encodeBatchToCommandBuffer:cb sourceImages:@[ source ] destinationMatrix:matrix];
}
@end
@implementation MPSMatrixCopyToImage
- (instancetype)initWithDevice:(id<MTLDevice>)device dataLayout:(MPSDataLayout)layout {
  if ((self = [super initWithDevice:device])) _dataLayout = layout;
  return self;
}
- (void)encodeBatchToCommandBuffer:(id<MTLCommandBuffer>)cb
                      sourceMatrix:(MPSMatrix*)matrix
                 destinationImages:(MPSImageBatch*)destinations {
  KernelUse use(_busy, name_of(self));
  check_batch(self, destinations, "destinations");
  check_write(self, cb, destinations);
  check_fit(self, destinations, matrix, _sourceMatrixOrigin);
  const MatrixView from = view(matrix, _sourceMatrixOrigin, _sourceMatrixBatchIndex);
  const bool hwc = _dataLayout == MPSDataLayoutHeightxWidthxFeatureChannels;
  encode(cb, name_of(self), self.label, {from.store}, stores(destinations),
         [=, into = refs(destinations)] {
           for (size_t n = 0; n < into.size(); ++n) {
             Tensor t(into[n].height, into[n].width, into[n].channels);
             content(into[n], hwc,
                     [&](size_t i, long y, long x, long c) { t.at(y, x)[c] = from.get(n, i); });
             store(into[n], t);
           }
         });
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                 sourceMatrix:(MPSMatrix*)matrix
             destinationImage:(MPSImage*)destination {
  [self encodeBatchToCommandBuffer:cb sourceMatrix:matrix destinationImages:@[ destination ]];
}
@end

@implementation MPSMatrixMultiplication {
  bool _left, _right;
  NSUInteger _rows, _columns, _interior;
  double _alpha, _beta;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                 transposeLeft:(BOOL)left
                transposeRight:(BOOL)right
                    resultRows:(NSUInteger)rows
                 resultColumns:(NSUInteger)columns
               interiorColumns:(NSUInteger)interior
                         alpha:(double)alpha
                          beta:(double)beta {
  if ((self = [super initWithDevice:device])) {
    _left = left;
    _right = right;
    _rows = rows;
    _columns = columns;
    _interior = interior;
    _alpha = alpha;
    _beta = beta;
  }
  return self;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device
                    resultRows:(NSUInteger)rows
                 resultColumns:(NSUInteger)columns
               interiorColumns:(NSUInteger)interior {
  return [self initWithDevice:device
                transposeLeft:NO
               transposeRight:NO
                   resultRows:rows
                resultColumns:columns
              interiorColumns:interior
                        alpha:1
                         beta:0];
}
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cb
                   leftMatrix:(MPSMatrix*)l
                  rightMatrix:(MPSMatrix*)r
                 resultMatrix:(MPSMatrix*)out {
  KernelUse use(_busy, name_of(self));
  if ((_left ? l.columns : l.rows) < _rows || (_left ? l.rows : l.columns) < _interior ||
      (_right ? r.columns : r.rows) < _interior || (_right ? r.rows : r.columns) < _columns ||
      out.rows < _rows || out.columns < _columns) {
    violate("%s: the matrices do not fit %lux%lux%lu", name_of(self), _rows, _columns, _interior);
    return;
  }
  const MatrixView a = view(l, _leftMatrixOrigin, 0), b = view(r, _rightMatrixOrigin, 0);
  const MatrixView y = view(out, _resultMatrixOrigin, 0);
  const size_t m = _rows, n = _columns, k = _interior;
  if (a.meets(_left ? k : m, _left ? m : k, y, m, n) ||
      b.meets(_right ? n : k, _right ? k : n, y, m, n))
    violate("%s: a source is also a destination", name_of(self));
  Stores reads;
  for (const MatrixView* v : {&a, &b})
    if (v->store != y.store) reads.push_back(v->store);
  encode(cb, name_of(self), self.label, std::move(reads), {y.store},
         [=, left = _left, right = _right, rows = _rows, columns = _columns, interior = _interior,
          alpha = static_cast<float>(_alpha), beta = static_cast<float>(_beta)] {
           for (size_t i = 0; i < rows; ++i)
             for (size_t j = 0; j < columns; ++j) {
               float sum = 0;
               for (size_t k = 0; k < interior; ++k)
                 sum += (left ? a.get(k, i) : a.get(i, k)) * (right ? b.get(j, k) : b.get(k, j));
               y.set(i, j, alpha * sum + (beta != 0 ? beta * y.get(i, j) : 0));
             }
         });
}
@end
