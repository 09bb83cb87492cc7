# The cpu backend, added to mpsnn_core. The files in kernels/ are compiled once for each instruction
# set, in a namespace of its own; the backend picks one when it starts.
file(GLOB cpu_sources CONFIGURE_DEPENDS src/backend/cpu/*.cpp)
target_sources(
    mpsnn_core
    PRIVATE ${cpu_sources} src/backend/cpu/kernels/select.cpp
)
target_compile_definitions(mpsnn_core PRIVATE MPSNN_HAS_CPU)
target_link_libraries(mpsnn_core PRIVATE DNNL::dnnl)

function(mpsnn_kernels isa)
    set(files
        pointwise
        arithmetic
        neuron
        gemm
        product
        pool
        resample
        norm
        softmax
        layer_norm
        local_norm
        loss
        winograd
        conv_weights
        depthwise
        rnn
        rnn_gradient
        optimizer
        table
    )
    list(TRANSFORM files PREPEND src/backend/cpu/kernels/)
    list(TRANSFORM files APPEND .cpp)
    add_library(mpsnn_kernels_${isa} OBJECT ${files})
    target_link_libraries(mpsnn_kernels_${isa} PRIVATE mpsnn_flags)
    target_compile_definitions(mpsnn_kernels_${isa} PRIVATE MPSNN_ISA=${isa})
    # No errno and no traps, so that sqrt and selects vectorise; NaN and infinity keep their meaning.
    target_compile_options(
        mpsnn_kernels_${isa}
        PRIVATE
            -O3
            -fno-math-errno
            -fno-trapping-math
            -ffp-contract=fast
            # clang does not know GCC's ivdep and checks for overlap at run time instead.
            $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-unknown-pragmas>
            ${ARGN}
    )
    target_sources(mpsnn_core PRIVATE $<TARGET_OBJECTS:mpsnn_kernels_${isa}>)
endfunction()

mpsnn_kernels(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT APPLE)
    mpsnn_kernels(avx2 -mavx2 -mfma -mf16c)
    mpsnn_kernels(
      avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
      -mprefer-vector-width=512
    )
endif()

# One team of threads for oneDNN and our own kernels.
if(DNNL_CPU_RUNTIME STREQUAL "OMP")
    find_package(OpenMP REQUIRED COMPONENTS CXX)
    target_compile_definitions(mpsnn_core PRIVATE MPSNN_OPENMP)
    target_link_libraries(mpsnn_core PRIVATE OpenMP::OpenMP_CXX)
endif()
