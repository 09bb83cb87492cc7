# Where oneDNN comes from, first match wins: the source tree MPSNN_ONEDNN_SOURCE (static, trimmed to
# what src/backend/cpu uses), the PyPI wheel of the build environment, the system.
# Afterwards there is the target DNNL::dnnl and the variable DNNL_CPU_RUNTIME.

if(MPSNN_ONEDNN_SOURCE)
    include(cmake/onednn_source.cmake)
    return()
endif()

# The wheel puts its files below the prefix it was installed to, which under pip's build isolation
# is not the interpreter's own; its list of files knows.
if(Python_Interpreter_FOUND)
    execute_process(
        COMMAND
            "${Python_EXECUTABLE}"
            "${CMAKE_CURRENT_LIST_DIR}/find_onednn_wheel.py"
        OUTPUT_VARIABLE wheel_config_dir
        OUTPUT_STRIP_TRAILING_WHITESPACE
    )
endif()

# Its config file asks for policies that CMake 4 has dropped.
set(CMAKE_POLICY_VERSION_MINIMUM 3.10)
if(wheel_config_dir)
    find_package(
        dnnl
        3
        CONFIG
        QUIET
        HINTS "${wheel_config_dir}"
        NO_DEFAULT_PATH
    )
endif()
if(NOT dnnl_FOUND)
    find_package(dnnl 3 CONFIG QUIET)
endif()
unset(CMAKE_POLICY_VERSION_MINIMUM)

if(NOT dnnl_FOUND)
    # The leading space keeps CMake from breaking the message into lines.
    message(
        FATAL_ERROR
        " oneDNN 3 not found: install it, set MPSNN_ONEDNN_SOURCE to its source tree, "
        "or build the reference device alone with MPSNN_REFERENCE_ONLY=ON"
    )
endif()
message(
    STATUS
    "oneDNN ${dnnl_VERSION} (${DNNL_CPU_RUNTIME} runtime): ${dnnl_DIR}"
)
