# The cpu backend, added to mpsnn_core. The files in kernels/ are compiled once for each instruction
# set, in a namespace of its own; the backend picks one when it starts.
file(GLOB cpu_sources CONFIGURE_DEPENDS src/backend/cpu/*.cpp)
file(GLOB kernel_sources CONFIGURE_DEPENDS src/backend/cpu/kernels/*.cpp)
target_sources(mpsnn_core PRIVATE ${cpu_sources} ${kernel_sources})
target_compile_definitions(mpsnn_core PRIVATE MPSNN_HAS_CPU)
target_link_libraries(mpsnn_core PRIVATE DNNL::dnnl)

# One team of threads for oneDNN and our own kernels.
if(DNNL_CPU_RUNTIME STREQUAL "OMP")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_compile_definitions(mpsnn_core PRIVATE MPSNN_OPENMP)
  target_link_libraries(mpsnn_core PRIVATE OpenMP::OpenMP_CXX)
endif()
