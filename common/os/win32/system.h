/*
 * The Windows headers, in the one order that works. Included only by this folder.
 */
#ifndef TWINPORT_OS_WIN32_SYSTEM_H
#define TWINPORT_OS_WIN32_SYSTEM_H

/* clang-format off */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mswsock.h>
#include <mstcpip.h>
#include <windows.h>
/* clang-format on */

#endif
