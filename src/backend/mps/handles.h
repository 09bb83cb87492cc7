// Names for Apple's objects, so that the headers of this backend are plain C++: in an Objective-C++
// file, which imports Apple's headers first, they are the classes and protocols themselves (counted
// references under ARC); anywhere else they are untyped pointers.
#pragma once

#ifdef __OBJC__
#define MPSNN_PROTOCOL(Name, Alias) \
  @protocol Name;                   \
  namespace mpsnn::backend::mps {   \
  using Alias = id<Name>;           \
  }
#define MPSNN_CLASS(Name, Alias)  \
  @class Name;                    \
  namespace mpsnn::backend::mps { \
  using Alias = Name*;            \
  }
#define MPSNN_ARRAY(Name, Alias)  \
  @class Name;                    \
  namespace mpsnn::backend::mps { \
  using Alias = NSArray<Name*>*;  \
  }
#else
#define MPSNN_HANDLE(Alias)       \
  namespace mpsnn::backend::mps { \
  using Alias = void*;            \
  }
#define MPSNN_PROTOCOL(Name, Alias) MPSNN_HANDLE(Alias)
#define MPSNN_CLASS(Name, Alias) MPSNN_HANDLE(Alias)
#define MPSNN_ARRAY(Name, Alias) MPSNN_HANDLE(Alias)
#endif

MPSNN_PROTOCOL(NSObject, ObserverRef)
MPSNN_PROTOCOL(MTLDevice, DeviceRef)
MPSNN_PROTOCOL(MTLCommandQueue, QueueRef)
MPSNN_PROTOCOL(MTLCommandBuffer, CommandsRef)
MPSNN_PROTOCOL(MTLComputeCommandEncoder, ComputeRef)
MPSNN_PROTOCOL(MTLBuffer, BufferRef)
MPSNN_PROTOCOL(MTLLibrary, LibraryRef)
MPSNN_PROTOCOL(MTLComputePipelineState, PipelineRef)
MPSNN_PROTOCOL(MPSCNNConvolutionDataSource, SourceRef)
MPSNN_CLASS(MPSCNNConvolutionDescriptor, ConvolutionDescriptorRef)
MPSNN_CLASS(MPSImageCopyToMatrix, ToMatrixRef)
MPSNN_CLASS(MPSMatrixCopyToImage, ToImageRef)
MPSNN_CLASS(MPSKernel, AnyKernelRef)
MPSNN_CLASS(MPSCNNKernel, KernelRef)
MPSNN_CLASS(MPSCNNGradientKernel, GradientKernelRef)
MPSNN_CLASS(MPSNNNeuronDescriptor, NeuronRef)
MPSNN_ARRAY(MPSImage, ImagesRef)
MPSNN_ARRAY(MPSState, StatesRef)

#undef MPSNN_PROTOCOL
#undef MPSNN_CLASS
#undef MPSNN_ARRAY
#undef MPSNN_HANDLE
