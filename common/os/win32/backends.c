/*
 * The back ends of Windows, and the start of Winsock. Winsock stays started until the process ends:
 * its end would close the sockets of all ports.
 */
#include "os/error.h"
#include "os/port_backend.h"
#include "os/thread.h"
#include "os/win32/iocp_port.h"

const tp__port_backend *const tp__port_backend_list[] = {&tp__iocp_backend, NULL};

static tp_once winsock_once;
static int winsock_error;

static void start_winsock(void) {
    WSADATA about;
    winsock_error = WSAStartup(MAKEWORD(2, 2), &about);
}

tp_err tp__port_platform_start(void) {
    tp_once_run(&winsock_once, start_winsock);
    return winsock_error == 0 ? TP_OK : tp_os_fail(winsock_error);
}
