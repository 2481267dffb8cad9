# What `cmake --install` leaves, and how other projects find it: a CMake package (find_package(twinport))
# and a pkg-config file for each library. Included last, when all the libraries are there.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/twinport")

# In two sets, because only the second needs OpenSSL: who uses the LAN half alone need not have it.
set(lan_libraries core proto lanserver lanclient)
set(wan_libraries "")
set(include_folders common/include/ lanserver/include/ lanclient/include/)
if(TWINPORT_WAN)
    set(wan_libraries secure wanserver)
    list(APPEND include_folders wanserver/include/)
endif()

install(DIRECTORY ${include_folders}
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
# A root of its own: users write "proto/frame.h", and /usr/include/proto is nobody's to take.
install(DIRECTORY proto DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/twinport-proto"
    FILES_MATCHING PATTERN "*.h" PATTERN "*_internal.h" EXCLUDE)
target_include_directories(tp_proto INTERFACE
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/twinport-proto>")

foreach(half lan wan)
    foreach(library IN LISTS ${half}_libraries)
        set_target_properties(tp_${library} PROPERTIES EXPORT_NAME ${library})
        install(TARGETS tp_${library} EXPORT twinport_${half}
            ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
            INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    endforeach()
    if(${half}_libraries)
        install(EXPORT twinport_${half} NAMESPACE twinport:: FILE twinport_${half}_targets.cmake
            DESTINATION "${package_folder}")
    endif()
endforeach()

foreach(program lanserver wanserver tp-token)
    if(TARGET ${program})
        install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
    endif()
endforeach()

configure_package_config_file(.cmake/twinportConfig.cmake.in
    "${PROJECT_BINARY_DIR}/package/twinportConfig.cmake" INSTALL_DESTINATION "${package_folder}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/twinportConfigVersion.cmake"
    COMPATIBILITY SameMinorVersion)
install(FILES
    "${PROJECT_BINARY_DIR}/package/twinportConfig.cmake"
    "${PROJECT_BINARY_DIR}/package/twinportConfigVersion.cmake"
    DESTINATION "${package_folder}")

# The system's libraries as the linker is told of them. The archives are static, so whoever links one
# needs these too, without having to say --static.
set(system_libraries "")
get_target_property(linked tp_core LINK_LIBRARIES)
get_target_property(linked_by_os tp_os INTERFACE_LINK_LIBRARIES)
foreach(library IN LISTS linked linked_by_os)
    if(library STREQUAL "Threads::Threads")
        list(APPEND system_libraries -pthread)
    elseif(NOT library MATCHES "tp_os|::|NOTFOUND")
        list(APPEND system_libraries "-l${library}")
    endif()
endforeach()
list(REMOVE_DUPLICATES system_libraries)
list(JOIN system_libraries " " system_libraries)

# The prefix is told from where the .pc file lies, so that an installed tree may be moved.
set(pc_folder "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
    BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}/${pc_folder}" OUTPUT_VARIABLE pc_prefix)

# twinport_pc(NAME DESCRIPTION LIBRARY INCLUDE_SUBFOLDER REQUIRES EXTRA_LIBS)
function(twinport_pc name description library include_subfolder requires extra_libs)
    string(CONCAT text
        "prefix=\${pcfiledir}/${pc_prefix}\n"
        "libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}\n"
        "includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}${include_subfolder}\n\n"
        "Name: ${name}\n"
        "Description: ${description}\n"
        "Version: ${PROJECT_VERSION}\n"
        "Cflags: -I\${includedir}\n")
    if(requires)
        string(APPEND text "Requires: ${requires}\n")
    endif()
    if(library)
        string(APPEND text "Libs: -L\${libdir} -l${library} ${extra_libs}\n")
    endif()
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/package/${name}.pc" CONTENT "${text}" @ONLY)
    install(FILES "${PROJECT_BINARY_DIR}/package/${name}.pc" DESTINATION "${pc_folder}")
endfunction()

twinport_pc(twinport-core "The shared completion-port core" twinport-core "" "" "${system_libraries}")
twinport_pc(twinport-proto "The LAN protocol, header-only" "" /twinport-proto "" "")
twinport_pc(lanserver "A server for a trusted network" lanserver "" "twinport-core" "")
twinport_pc(lanclient "What a service links to speak to the bus" lanclient "" "twinport-core" "")

if(TWINPORT_WAN)
    if(WIN32) # where libcrypto comes without a pkg-config file
        twinport_pc(twinport-secure "The cryptography of the WAN" twinport-secure "" "twinport-proto"
            "-lcrypto -lws2_32 -lcrypt32 -lssp")
    else()
        twinport_pc(twinport-secure "The cryptography of the WAN" twinport-secure ""
            "twinport-proto libcrypto >= 3.0" "")
    endif()
    twinport_pc(wanserver "A server for players" wanserver "" "twinport-secure twinport-core" "")
endif()
