/* POSIX only: the translation of errno to tp_err. */
#include "check.h"

#include <errno.h>

#include "os/error.h"

static const struct {
    int os_error;
    tp_err error;
} table[] = {
    {ENOMEM, TP_ERR_NO_MEMORY},
    {ETIMEDOUT, TP_ERR_TIMED_OUT},
    {ECANCELED, TP_ERR_CANCELLED},
    {EPIPE, TP_ERR_CLOSED},
    {ECONNRESET, TP_ERR_RESET},
    {ECONNABORTED, TP_ERR_RESET},
    {ECONNREFUSED, TP_ERR_REFUSED},
    {ENETUNREACH, TP_ERR_UNREACHABLE},
    {EHOSTUNREACH, TP_ERR_UNREACHABLE},
    {EADDRINUSE, TP_ERR_ADDRESS_IN_USE},
    {EADDRNOTAVAIL, TP_ERR_ADDRESS},
    {EACCES, TP_ERR_ACCESS},
    {EPERM, TP_ERR_ACCESS},
    {EMFILE, TP_ERR_NO_DESCRIPTORS},
    {ENFILE, TP_ERR_NO_DESCRIPTORS},
    {ENOBUFS, TP_ERR_NO_BUFFERS},
    {ENOSYS, TP_ERR_UNSUPPORTED},
    {ENOTCONN, TP_ERR_NOT_CONNECTED},
    {ENOENT, TP_ERR_NO_FILE},
    {EBADF, TP_ERR_OS},
    {EINVAL, TP_ERR_OS},
};

static void each_errno_has_its_error(void) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        CHECK_EQ(tp_os_translate(table[i].os_error), table[i].error);
        CHECK_EQ(tp_os_fail(table[i].os_error), table[i].error);
        CHECK_EQ(tp_os_error(), table[i].os_error);
        errno = table[i].os_error;
        CHECK_EQ(tp_os_fail_last(), table[i].error);
    }
}

CHECK_MAIN(CASE(each_errno_has_its_error))
