# Sanitizer builds. `thread` is for builds without OpenMP: its runtime is not instrumented, and every
# barrier of it would be reported as a race.
if(MPSNN_SANITIZE STREQUAL "address")
    add_compile_options(
        -fsanitize=address,undefined
        -fno-sanitize-recover=undefined
        -fno-omit-frame-pointer
        -g
        -D_GLIBCXX_ASSERTIONS # an index past a vector's end is not always past its memory
    )
    add_link_options(-fsanitize=address,undefined)
    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
        # Loaded into Python, the runtime must be the shared one. Blocks and Objective-C classes have
        # none of the type information that these two checks read.
        add_compile_options(-shared-libsan -fno-sanitize=vptr,function)
        add_link_options(-shared-libsan)
    endif()
elseif(MPSNN_SANITIZE STREQUAL "thread")
    add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -g)
    add_link_options(-fsanitize=thread)
elseif(MPSNN_SANITIZE)
    message(
        FATAL_ERROR
        "MPSNN_SANITIZE is address, thread or empty, not '${MPSNN_SANITIZE}'"
    )
endif()
