# How tests are added: one line each, always with a label and a time-out.

# The system's interpreter if there is one: another one that comes first in PATH (pyenv, a virtual
# environment) does not see the modules that the system's packages bring (python3-cryptography).
if(NOT Python3_EXECUTABLE AND EXISTS "/usr/bin/python3")
    set(Python3_EXECUTABLE "/usr/bin/python3")
endif()
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)

set(TWINPORT_TIME_FACTOR 1 CACHE STRING
    "How many times slower than a plain build this one may be: multiplies every test's time-out")

# The part that all tests share. Tests read the same factor from their environment, so that a
# deadline inside a test stretches with the time-out around it. A test says how long it may take on a
# quiet machine; a busy or stalling one is given much more, for the time-out is there for what hangs.
function(twinport_test_properties name label timeout serial)
    math(EXPR stretched "(3 * ${timeout} + 60) * ${TWINPORT_TIME_FACTOR}")
    set_tests_properties(${name} PROPERTIES
        LABELS ${label}
        TIMEOUT ${stretched}
        SKIP_RETURN_CODE 77
        RUN_SERIAL ${serial}
        ENVIRONMENT "TWINPORT_TIME_FACTOR=${TWINPORT_TIME_FACTOR};TWINPORT_BIN=${PROJECT_BINARY_DIR}/bin;TWINPORT_EMULATOR=${CMAKE_CROSSCOMPILING_EMULATOR};TWINPORT_EXE=${CMAKE_EXECUTABLE_SUFFIX};PYTHONDONTWRITEBYTECODE=1")
    if(CMAKE_CROSSCOMPILING_EMULATOR)
        twinport_emulated_test(${name})
    endif()
endfunction()

# Every other test has its Win32 programs on the other core (tests/wine/run), so that two at once need
# not share one.
function(twinport_emulated_test name)
    get_property(core GLOBAL PROPERTY twinport_wine_core)
    math(EXPR core "(0${core} + 1) % 2")
    set_property(GLOBAL PROPERTY twinport_wine_core ${core})
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT "TWINPORT_WINE_CORE=${core}")
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED emulator) # tests/wine makes it ready
endfunction()

# For a program with tests/check.h: the emulator's exit code alone is not believed (tests/wine/run).
function(twinport_wants_verdict program)
    if(CMAKE_CROSSCOMPILING_EMULATOR)
        set_target_properties(${program} PROPERTIES
            CROSSCOMPILING_EMULATOR "${CMAKE_CROSSCOMPILING_EMULATOR};--verdict")
    endif()
endfunction()

macro(twinport_test_arguments function)
    cmake_parse_arguments(arg "SERIAL" "NAME;LABEL;TIMEOUT;SCRIPT"
        "SOURCES;LIBRARIES;WRAPS;DEFINITIONS;ARGUMENTS;DEPENDS" ${ARGN})
    if(arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "${function}: does not know ${arg_UNPARSED_ARGUMENTS}")
    endif()
    foreach(required NAME LABEL TIMEOUT)
        if(NOT arg_${required})
            message(FATAL_ERROR "${function}: ${required} is missing: ${ARGN}")
        endif()
    endforeach()
endmacro()

# twinport_test(NAME unit.packet SOURCES packet.c LIBRARIES tp_core LABEL unit TIMEOUT 30
#               [WRAPS tp_clock_ms ...] [DEFINITIONS ...] [ARGUMENTS ...] [SERIAL])
# Builds bin/<NAME> and runs it, in a cross build by the emulator. SERIAL: nothing else beside it.
# WRAPS: functions of the product that the test replaces (tests/unit/fixtures/wrapped.h). The linker does it
# where it resolves names, so the libraries must be linked as machine code: in a release, tests are linked
# with -fno-lto (compile.cmake).
function(twinport_test)
    twinport_test_arguments(twinport_test ${ARGN})
    add_executable(${arg_NAME} ${arg_SOURCES})
    target_include_directories(${arg_NAME} PRIVATE
        "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}/common" "${PROJECT_SOURCE_DIR}")
    target_compile_definitions(${arg_NAME} PRIVATE ${arg_DEFINITIONS})
    target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBRARIES})
    list(TRANSFORM arg_WRAPS PREPEND "LINKER:--wrap=")
    target_link_options(${arg_NAME} PRIVATE ${arg_WRAPS})
    twinport_wants_verdict(${arg_NAME})
    add_test(NAME ${arg_NAME} COMMAND ${arg_NAME} ${arg_ARGUMENTS})
    twinport_test_properties(${arg_NAME} ${arg_LABEL} ${arg_TIMEOUT} ${arg_SERIAL})
endfunction()

# twinport_system_test(NAME system.bus SCRIPT bus.py TIMEOUT 60 [LABEL system] [ARGUMENTS ...] [SERIAL])
# Runs a Python script natively, in a cross build too. It finds the programs by its environment:
# TWINPORT_BIN (folder), TWINPORT_EXE (suffix) and TWINPORT_EMULATOR (to put in front, or empty).
function(twinport_system_test)
    twinport_test_arguments(twinport_system_test LABEL system ${ARGN})
    # The interpreter's path, not its target: a target would be run by the emulator.
    add_test(NAME ${arg_NAME}
        COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/${arg_SCRIPT}" ${arg_ARGUMENTS}
        COMMAND_EXPAND_LISTS)
    twinport_test_properties(${arg_NAME} ${arg_LABEL} ${arg_TIMEOUT} ${arg_SERIAL})
endfunction()
