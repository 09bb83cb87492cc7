// Matrix products against numbers worked by hand (mps-reference 8.2).
#import "check.h"

namespace {
using V = std::vector<float>;

MPSMatrix* matrix(id<MTLBuffer> data, NSUInteger rows, NSUInteger columns, NSUInteger row,
                  NSUInteger first) {
  MPSMatrixDescriptor* d = [MPSMatrixDescriptor matrixDescriptorWithRows:rows
                                                                 columns:columns
                                                                rowBytes:row * 4
                                                                dataType:MPSDataTypeFloat32];
  return [[MPSMatrix alloc] initWithBuffer:data offset:first * 4 descriptor:d];
}
MPSMatrixMultiplication* product(bool left, bool right, NSUInteger m, NSUInteger n, NSUInteger k,
                                 double beta) {
  return [[MPSMatrixMultiplication alloc] initWithDevice:device()
                                           transposeLeft:left
                                          transposeRight:right
                                              resultRows:m
                                           resultColumns:n
                                         interiorColumns:k
                                                   alpha:1
                                                    beta:beta];
}
void run(MPSMatrixMultiplication* kernel, MPSMatrix* a, MPSMatrix* b, MPSMatrix* y) {
  id<MTLCommandBuffer> cb = [queue() commandBuffer];
  [kernel encodeToCommandBuffer:cb leftMatrix:a rightMatrix:b resultMatrix:y];
  synchronize(cb, y.data);
  [cb commit];
  [cb waitUntilCompleted];
}

// {{1, 2}, {3, 4}} {{5, 6}, {7, 8}} = {{19, 22}, {43, 50}}; its left transposed {{26, 30}, {38,
// 44}}, its right {{17, 23}, {39, 53}}. All three lie in one buffer, result rows 3 apart.
const bool products = add_test("matrix products: transposed, added, parts of one buffer", [] {
  const V start{1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 0, 30, 40, 0};
  id<MTLBuffer> data = buffer(start);
  MPSMatrix *a = matrix(data, 2, 2, 2, 0), *b = matrix(data, 2, 2, 2, 4);
  MPSMatrix* y = matrix(data, 2, 2, 3, 8);
  const auto result = [&] {
    const V all = floats(data);
    return V(all.begin() + 8, all.end());
  };
  run(product(false, false, 2, 2, 2, 1), a, b, y);
  NEAR(result(), {29, 42, 0, 73, 90, 0});
  run(product(false, false, 2, 2, 2, 0), a, b, y);
  NEAR(result(), {19, 22, 0, 43, 50, 0});
  run(product(true, false, 2, 2, 2, 0), a, b, y);
  NEAR(result(), {26, 30, 0, 38, 44, 0});
  run(product(false, true, 2, 2, 2, 0), a, b, y);
  NEAR(result(), {17, 23, 0, 39, 53, 0});
});

const bool overlap = add_test("matrix products: a source may not overlap the result", [] {
  id<MTLBuffer> data = buffer(V(12, 1));
  MPSMatrix *a = matrix(data, 2, 2, 2, 0), *b = matrix(data, 2, 2, 2, 4);
  VIOLATES("a source is also a destination",
           { run(product(false, false, 2, 2, 2, 0), a, b, matrix(data, 2, 2, 2, 7)); });
});
}  // namespace
