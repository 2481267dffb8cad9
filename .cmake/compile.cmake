# What every target of the project is compiled with. Directory scope: included once by the top
# CMakeLists.txt, so no target can forget it and nothing leaks into a project that embeds twinport.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Every program, those of the tests included, lands in one place.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

# Warnings are errors, but not in a project that embeds this one and brings a compiler we never saw;
# cmake --compile-no-warning-as-error lifts it for a packager.
set(TWINPORT_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Wvla)
add_compile_options(${TWINPORT_WARNINGS})
if(NOT DEFINED CMAKE_COMPILE_WARNING_AS_ERROR)
    set(CMAKE_COMPILE_WARNING_AS_ERROR ${PROJECT_IS_TOP_LEVEL})
endif()

set(TWINPORT_SANITIZE "" CACHE STRING
    "What -fsanitize= is given, as one comma-separated word; 'trap' in it traps instead of reporting")
if(TWINPORT_SANITIZE)
    string(REPLACE "," ";" sanitizers "${TWINPORT_SANITIZE}")
    list(REMOVE_ITEM sanitizers trap)
    list(JOIN sanitizers "," sanitizers)
    add_compile_options(-fsanitize=${sanitizers} -fno-omit-frame-pointer)
    if("${TWINPORT_SANITIZE}" MATCHES "(^|,)trap(,|$)")
        # mingw-w64 has no sanitizer runtime: the check ends the program by an illegal instruction.
        add_compile_options(-fsanitize-undefined-trap-on-error)
    else()
        add_compile_options(-fno-sanitize-recover=all)
        add_link_options(-fsanitize=${sanitizers})
    endif()
endif()

# Hardening. Every function is bound before a program runs: a dynamic linker that binds at the first
# call saves all vector registers on the caller's stack, with the keys that are in them.
add_compile_options(-fstack-protector-strong)
if(WIN32)
    # Position-independent, with 64-bit randomness, and no execution of data.
    add_link_options(-Wl,--dynamicbase,--high-entropy-va,--nxcompat)
    # Where it is told so, the compiler's driver links the library that the protector needs.
    add_link_options(-fstack-protector-strong)
else()
    add_link_options(-Wl,-z,relro,-z,now)
endif()
if(NOT TWINPORT_SANITIZE)
    # Needs optimisation. Undefined first: some compilers come with a value of their own.
    add_compile_options($<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE>
        $<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-D_FORTIFY_SOURCE=2>)
endif()

# twinport_across_files(TARGET...): in a release by gcc, libraries carry their intermediate form beside
# the code, and a program named here is optimised across all of them. Everybody else is told to leave that
# form alone, which costs each link of a test seconds otherwise. (gcc's driver takes -fno-lto for the last word
# on its linker plugin, wherever it stands: so a program named here must not see it at all.)
set(across_files FALSE)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT TWINPORT_SANITIZE)
    set(across_files TRUE)
    set(as_usual $<NOT:$<BOOL:$<TARGET_PROPERTY:TWINPORT_ACROSS_FILES>>>)
    add_link_options($<$<AND:$<CONFIG:Release>,${as_usual}>:-fno-lto>)
endif()

function(twinport_across_files)
    if(NOT across_files)
        return()
    endif()
    set_target_properties(${ARGN} PROPERTIES TWINPORT_ACROSS_FILES TRUE)
    foreach(target IN LISTS ARGN)
        target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-flto=auto$<SEMICOLON>-ffat-lto-objects>)
        target_link_options(${target} PRIVATE $<$<CONFIG:Release>:-flto=auto$<SEMICOLON>-O3>)
    endforeach()
endfunction()
