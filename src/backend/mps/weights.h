// Parameters on their way into kernels of MPS that hold weights themselves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/mps/executable.h"

namespace mpsnn::backend::mps {

// What MPS asks of a data source. The weights it copies at first are zeros: true ones follow on the
// command buffer before the first use, so that no layer's weights are ever held twice on the host.
SourceRef source_of_zeros(ConvolutionDescriptorRef descriptor, int64_t weights, int64_t biases,
                          bool half, const std::string& layer);

// Whether a kernel's own weights are those of the parameters.
class Changes {
 public:
  // True where they must be loaded in this step. While the command buffer that loads them is in
  // flight it may still fail: the steps behind it load them, too.
  bool since(Encoding& e, const std::vector<ValueId>& parameters);

 private:
  bool loaded_ = false;
  CommandsRef loads_ = nil;
  std::vector<int64_t> stamps_;
};

}  // namespace mpsnn::backend::mps
