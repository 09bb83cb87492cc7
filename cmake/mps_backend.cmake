# The mps backend, added to mpsnn_core: Objective-C++ against `apple::frameworks`, which is Apple's own
# on macOS. A test build elsewhere (MPSNN_APPLE_SIM) takes a software stand-in for them.
set(mps_kernels
    "${CMAKE_CURRENT_SOURCE_DIR}/src/backend/mps/kernels.h"
    "${CMAKE_CURRENT_SOURCE_DIR}/src/backend/mps/kernels.metal"
    "${CMAKE_CURRENT_SOURCE_DIR}/src/backend/mps/kernels_loss.metal"
    "${CMAKE_CURRENT_SOURCE_DIR}/src/backend/mps/kernels_norm.metal"
    "${CMAKE_CURRENT_SOURCE_DIR}/src/backend/mps/kernels_rnn.metal"
    "${CMAKE_CURRENT_SOURCE_DIR}/src/backend/mps/kernels_update.metal"
)
if(NOT APPLE AND NOT CMAKE_OBJCXX_COMPILER)
    find_program(
        MPSNN_CLANGXX
        NAMES
            clang++
            clang++-20
            clang++-19
            clang++-18
            clang++-17
            clang++-16
            clang++-15
            clang++-14
        REQUIRED
    )
    set(CMAKE_OBJCXX_COMPILER
        "${MPSNN_CLANGXX}"
        CACHE FILEPATH
        "Objective-C++ compiler"
    )
endif()
enable_language(OBJCXX)
set(CMAKE_OBJCXX_STANDARD 17)
set(CMAKE_OBJCXX_STANDARD_REQUIRED ON)
set(CMAKE_OBJCXX_EXTENSIONS OFF)
set(CMAKE_OBJCXX_VISIBILITY_PRESET hidden)

if(APPLE)
    add_library(apple_frameworks INTERFACE)
    target_link_libraries(
        apple_frameworks
        INTERFACE
            "-framework Foundation"
            "-framework Metal"
            "-framework MetalPerformanceShaders"
    )
    add_library(apple::frameworks ALIAS apple_frameworks)
else()
    add_subdirectory(tests/apple_sim)
    apple_sim_add_metal(mpsnn_core ${mps_kernels})
endif()

# The kernels are compiled by Metal when a device is first used, from source in the binary.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${mps_kernels})
set(MPSNN_KERNEL_SOURCE "")
foreach(file IN LISTS mps_kernels)
    file(READ "${file}" text)
    string(APPEND MPSNN_KERNEL_SOURCE "${text}")
endforeach()
set(kernel_source "${CMAKE_CURRENT_BINARY_DIR}/mps_kernel_source.cpp")
configure_file(cmake/mps_kernel_source.cpp.in "${kernel_source}" @ONLY)

file(GLOB mps_sources CONFIGURE_DEPENDS src/backend/mps/*.mm)
set_source_files_properties(
    ${mps_sources}
    PROPERTIES COMPILE_OPTIONS -fobjc-arc
)
target_sources(mpsnn_core PRIVATE ${mps_sources} "${kernel_source}")
target_compile_definitions(mpsnn_core PRIVATE MPSNN_HAS_MPS)
target_link_libraries(mpsnn_core PUBLIC apple::frameworks)
