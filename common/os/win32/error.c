/*
 * Translates Win32, Winsock and NT codes.
 *
 * Any thread. One int per thread is kept for tp_os_error(), in a slot of TlsAlloc(): this is the
 * path of failures, and such a slot needs neither memory nor a cleanup.
 *
 * Completions carry an NTSTATUS (OVERLAPPED.Internal). It becomes the Winsock or Win32 code that
 * the synchronous call would have returned, so that the log shows one kind of number.
 */
#include "os/error.h"

#include <stddef.h>
#include <stdint.h>

#include "os/compiler.h"
#include "os/thread.h"
#include "os/win32/nt_error.h"

/* ntstatus.h and winnt.h both define the wait statuses. */
#define WIN32_NO_STATUS
#include "os/win32/system.h"
#undef WIN32_NO_STATUS

#include <ntstatus.h>
#include <winternl.h>

typedef struct code_pair {
    uint32_t from;
    int to;
} code_pair;

static const code_pair nt_codes[] = {
    {(uint32_t)STATUS_CANCELLED, WSA_OPERATION_ABORTED},
    {(uint32_t)STATUS_CONNECTION_REFUSED, WSAECONNREFUSED},
    {(uint32_t)STATUS_CONNECTION_RESET, WSAECONNRESET},
    {(uint32_t)STATUS_CONNECTION_DISCONNECTED, WSAECONNRESET},
    {(uint32_t)STATUS_REMOTE_DISCONNECT, WSAECONNRESET},
    /* Wine: the remote side reset the connection before the AcceptEx had examined the new
     * socket. */
    {(uint32_t)STATUS_INVALID_CONNECTION, WSAECONNRESET},
    {(uint32_t)STATUS_CONNECTION_ABORTED, WSAECONNABORTED},
    {(uint32_t)STATUS_LOCAL_DISCONNECT, WSAECONNABORTED},
    {(uint32_t)STATUS_PIPE_DISCONNECTED, WSAESHUTDOWN},
    {(uint32_t)STATUS_GRACEFUL_DISCONNECT, WSAEDISCON},
    {(uint32_t)STATUS_NETWORK_UNREACHABLE, WSAENETUNREACH},
    {(uint32_t)STATUS_HOST_UNREACHABLE, WSAEHOSTUNREACH},
    {(uint32_t)STATUS_PROTOCOL_UNREACHABLE, WSAENETUNREACH},
    {(uint32_t)STATUS_PORT_UNREACHABLE, WSAECONNRESET},
    {(uint32_t)STATUS_IO_TIMEOUT, WSAETIMEDOUT},
    {(uint32_t)STATUS_LINK_TIMEOUT, WSAETIMEDOUT},
    {(uint32_t)STATUS_INSUFFICIENT_RESOURCES, WSAENOBUFS},
    {(uint32_t)STATUS_QUOTA_EXCEEDED, WSAENOBUFS},
    {(uint32_t)STATUS_TOO_MANY_OPENED_FILES, WSAEMFILE},
    {(uint32_t)STATUS_ADDRESS_ALREADY_EXISTS, WSAEADDRINUSE},
    {(uint32_t)STATUS_INVALID_ADDRESS, WSAEADDRNOTAVAIL},
    {(uint32_t)STATUS_INVALID_ADDRESS_COMPONENT, WSAEADDRNOTAVAIL},
};

int tp__nt_error(uint32_t status) {
    if ((status & 0x80000000u) == 0) { /* success and information */
        return 0;
    }
    for (size_t i = 0; i < TP_COUNT_OF(nt_codes); i++) {
        if (nt_codes[i].from == status) {
            return nt_codes[i].to;
        }
    }
    int code = (int)RtlNtStatusToDosError((NTSTATUS)status);
    return code != 0 ? code : ERROR_GEN_FAILURE;
}

tp_err tp_os_translate(int os_error) {
    switch (os_error) {
    case 0:
        return TP_OK;
    case WSAEINVAL:
    case WSAEFAULT:
    case ERROR_INVALID_PARAMETER:
        return TP_ERR_INVALID;
    case ERROR_NOT_ENOUGH_MEMORY: /* also WSA_NOT_ENOUGH_MEMORY */
    case ERROR_OUTOFMEMORY:
    case ERROR_COMMITMENT_LIMIT:
        return TP_ERR_NO_MEMORY;
    case WAIT_TIMEOUT:
    case WSAETIMEDOUT:
    case ERROR_SEM_TIMEOUT: /* a connection attempt without an answer */
        return TP_ERR_TIMED_OUT;
    case ERROR_OPERATION_ABORTED: /* also WSA_OPERATION_ABORTED */
    case WSAECANCELLED:
        return TP_ERR_CANCELLED;
    case WSAEDISCON:
    case WSAESHUTDOWN:
    case ERROR_GRACEFUL_DISCONNECT:
        return TP_ERR_CLOSED;
    case WSAECONNRESET:
    case WSAECONNABORTED:
    case WSAENETRESET:
    case ERROR_NETNAME_DELETED:
    case ERROR_CONNECTION_ABORTED:
        return TP_ERR_RESET;
    case WSAECONNREFUSED:
    case ERROR_CONNECTION_REFUSED:
        return TP_ERR_REFUSED;
    case WSAENETUNREACH:
    case WSAEHOSTUNREACH:
    case WSAENETDOWN:
    case WSAEHOSTDOWN:
    case ERROR_NETWORK_UNREACHABLE:
    case ERROR_HOST_UNREACHABLE:
    case ERROR_PROTOCOL_UNREACHABLE:
    case ERROR_PORT_UNREACHABLE:
        return TP_ERR_UNREACHABLE;
    case WSAEADDRINUSE:
        return TP_ERR_ADDRESS_IN_USE;
    case WSAEADDRNOTAVAIL:
    case WSAEAFNOSUPPORT:
    case ERROR_INVALID_NETNAME:
        return TP_ERR_ADDRESS;
    case WSAEACCES:
    case ERROR_ACCESS_DENIED:
        return TP_ERR_ACCESS;
    case WSAEMFILE:
    case ERROR_TOO_MANY_OPEN_FILES:
        return TP_ERR_NO_DESCRIPTORS;
    case WSAENOBUFS:
    case ERROR_NO_SYSTEM_RESOURCES:
    case ERROR_NOT_ENOUGH_QUOTA:
    case ERROR_WORKING_SET_QUOTA:
        return TP_ERR_NO_BUFFERS;
    case WSAEOPNOTSUPP:
    case WSAEPROTONOSUPPORT:
    case ERROR_NOT_SUPPORTED:
        return TP_ERR_UNSUPPORTED;
    case WSAENOTCONN:
        return TP_ERR_NOT_CONNECTED;
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
        return TP_ERR_NO_FILE;
    default:
        return TP_ERR_OS;
    }
}

/* ---- the code kept for tp_os_error() --------------------------------------------------------- */

static tp_once slot_once;
static DWORD slot;

static void make_slot(void) {
    slot = TlsAlloc();
}

tp_err tp_os_fail(int os_error) {
    tp_once_run(&slot_once, make_slot);
    if (slot != TLS_OUT_OF_INDEXES) {
        (void)TlsSetValue(slot, (void *)(intptr_t)os_error);
    }
    return tp_os_translate(os_error);
}

/* WSAGetLastError() is GetLastError() under another name. The result is never TP_OK. */
tp_err tp_os_fail_last(void) {
    tp_err error = tp_os_fail((int)GetLastError());
    return error != TP_OK ? error : TP_ERR_OS;
}

int tp_os_error(void) {
    tp_once_run(&slot_once, make_slot);
    return slot != TLS_OUT_OF_INDEXES ? (int)(intptr_t)TlsGetValue(slot) : 0;
}
