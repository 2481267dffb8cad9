# Cross build for 64-bit Windows with mingw-w64 (Debian: g++-mingw-w64-x86-64-posix). Tests run
# under Wine.

set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)

set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)

# Static, so that a program is one file without the DLLs of libwinpthread and libgcc.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)

# The WAN's libcrypto: the one that .ci/openssl-win64 has built, unless the user has set a path.
if(CMAKE_HOST_UNIX AND NOT OPENSSL_ROOT_DIR AND NOT DEFINED ENV{OPENSSL_ROOT_DIR})
    cmake_path(SET twinport_openssl NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../../../.ci/openssl-win64")
    execute_process(COMMAND "${twinport_openssl}" --find
        OUTPUT_VARIABLE OPENSSL_ROOT_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
set(OPENSSL_USE_STATIC_LIBS ON)

list(APPEND CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32 ${OPENSSL_ROOT_DIR} $ENV{OPENSSL_ROOT_DIR})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

if(CMAKE_HOST_UNIX)
    cmake_path(SET twinport_wine NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../../../tests/wine/run")
    set(CMAKE_CROSSCOMPILING_EMULATOR "${twinport_wine}")
endif()
