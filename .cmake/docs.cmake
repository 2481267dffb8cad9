# The target `docs`: an API reference in HTML, made by Doxygen from the public headers. The headers' comments
# are plain C comments; doxygen_comments.py marks them for Doxygen. A warning fails the target.

if(NOT PROJECT_IS_TOP_LEVEL)
    return()
endif()
find_package(Doxygen QUIET)
find_package(Python3 QUIET COMPONENTS Interpreter)
if(NOT DOXYGEN_FOUND OR NOT Python3_FOUND)
    return()
endif()

set(DOXYGEN_PROJECT_NAME "${PROJECT_NAME}")
set(DOXYGEN_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/docs")
set(DOXYGEN_OPTIMIZE_OUTPUT_FOR_C YES)
set(DOXYGEN_EXTRACT_ALL YES)
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_MARKDOWN_SUPPORT NO)
set(DOXYGEN_FILTER_PATTERNS "*.h=${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/doxygen_comments.py")
set(DOXYGEN_MACRO_EXPANSION YES)
set(DOXYGEN_PREDEFINED "__cplusplus=0")
set(DOXYGEN_AUTOLINK_SUPPORT NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_QUIET YES)
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}")

file(GLOB twinport_public_headers CONFIGURE_DEPENDS
    "${PROJECT_SOURCE_DIR}/*/include/twinport/*.h" "${PROJECT_SOURCE_DIR}/proto/*.h")
list(FILTER twinport_public_headers EXCLUDE REGEX "_internal[.]h$")
doxygen_add_docs(docs ${twinport_public_headers} "${CMAKE_CURRENT_LIST_DIR}/mainpage.dox"
    COMMENT "API reference: ${PROJECT_BINARY_DIR}/docs/html/index.html")
