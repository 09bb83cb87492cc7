# oneDNN from a source tree, linked statically and trimmed to the primitives that src/backend/cpu
# makes. Its threads are those of src/core/threads, so that no OpenMP runtime is shared with anyone.
get_filename_component(
    MPSNN_ONEDNN_SOURCE
    "${MPSNN_ONEDNN_SOURCE}"
    ABSOLUTE
    BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}"
)
if(NOT EXISTS "${MPSNN_ONEDNN_SOURCE}/include/oneapi/dnnl/dnnl.hpp")
    message(
        FATAL_ERROR
        " MPSNN_ONEDNN_SOURCE is not a oneDNN source tree: ${MPSNN_ONEDNN_SOURCE}"
    )
endif()

set(ONEDNN_CPU_RUNTIME "THREADPOOL" CACHE STRING "oneDNN's threads" FORCE)
set(ONEDNN_LIBRARY_TYPE
    "STATIC"
    CACHE STRING
    "oneDNN as a static library"
    FORCE
)
set(ONEDNN_ENABLE_WORKLOAD "TRAINING" CACHE STRING "forward and backward" FORCE)
set(ONEDNN_ENABLE_PRIMITIVE
    "CONVOLUTION;DECONVOLUTION;MATMUL;REORDER"
    CACHE STRING
    "what src/backend/cpu makes"
    FORCE
)
foreach(
    part
    BUILD_DOC
    BUILD_EXAMPLES
    BUILD_TESTS
    BUILD_GRAPH
    ENABLE_GRAPH_DUMP
    ENABLE_ITT_TASKS
)
    set(ONEDNN_${part} OFF CACHE BOOL "not needed" FORCE)
endforeach()

add_subdirectory("${MPSNN_ONEDNN_SOURCE}" onednn EXCLUDE_FROM_ALL)
if(NOT TARGET DNNL::dnnl)
    add_library(DNNL::dnnl ALIAS dnnl)
endif()
message(
    STATUS
    "oneDNN (${DNNL_CPU_RUNTIME} runtime, static): ${MPSNN_ONEDNN_SOURCE}"
)
