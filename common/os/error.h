/*
 * Translates the system's error codes. Any thread.
 */
#ifndef TWINPORT_OS_ERROR_H
#define TWINPORT_OS_ERROR_H

#include "twinport/error.h"

/* The tp_err for a code of the system (errno; GetLastError(), WSAGetLastError()). */
tp_err tp_os_translate(int os_error);

/* Keeps `os_error` for this thread's tp_os_error(), and returns its tp_err. */
tp_err tp_os_fail(int os_error);

/* The same for the error that the system reported last on this thread. */
tp_err tp_os_fail_last(void);

#endif
