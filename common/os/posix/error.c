/*
 * Translates errno, and keeps one code per thread for tp_os_error(). Any thread.
 */
#include <errno.h>

#include "os/compiler.h"
#include "os/error.h"

static TP_THREAD_LOCAL int last_error;

int tp_os_error(void) {
    return last_error;
}

tp_err tp_os_translate(int os_error) {
    /* Without EAGAIN and EINTR: the back end handles them, and they are no errors. */
    switch (os_error) {
    case 0:
        return TP_OK;
    case ENOMEM:
        return TP_ERR_NO_MEMORY;
    case ETIMEDOUT:
        return TP_ERR_TIMED_OUT;
    case ECANCELED:
        return TP_ERR_CANCELLED;
    case EPIPE:
        return TP_ERR_CLOSED;
    case ECONNRESET:
    case ECONNABORTED:
        return TP_ERR_RESET;
    case ECONNREFUSED:
        return TP_ERR_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
#ifdef EHOSTDOWN
    case EHOSTDOWN:
#endif
        return TP_ERR_UNREACHABLE;
    case EADDRINUSE:
        return TP_ERR_ADDRESS_IN_USE;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return TP_ERR_ADDRESS;
    case EACCES:
    case EPERM:
        return TP_ERR_ACCESS;
    case EMFILE:
    case ENFILE:
        return TP_ERR_NO_DESCRIPTORS;
    case ENOBUFS:
        return TP_ERR_NO_BUFFERS;
    case ENOSYS:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
        return TP_ERR_UNSUPPORTED;
    case ENOTCONN:
        return TP_ERR_NOT_CONNECTED;
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
        return TP_ERR_NO_FILE;
    default:
        return TP_ERR_OS;
    }
}

tp_err tp_os_fail(int os_error) {
    last_error = os_error;
    return tp_os_translate(os_error);
}

tp_err tp_os_fail_last(void) {
    return tp_os_fail(errno);
}
