/*
 * Output that cannot harm the process that writes it: the log's file, standard output and error.
 *
 * Neither stdio nor write() is enough. A pipe whose reader has closed it, and a file that has
 * reached its size limit, raise a signal that ends the process. A pipe whose reader does not read
 * blocks the writer for ever. And in a program that was started with its standard streams closed,
 * their numbers belong to something else: to a socket, as soon as there is one. The functions here
 * raise no signal, wait no longer than the caller allows, and write to no descriptor that is not
 * the standard stream.
 */
#ifndef TWINPORT_OS_STREAM_H
#define TWINPORT_OS_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/error.h"

typedef struct tp_stream {
    intptr_t handle;       /* the system's; used by the implementation only */
    bool standard;         /* made by tp_stream_standard(): each write checks it again */
    atomic_bool cancelled; /* no write waits any more */
} tp_stream;

typedef enum tp_standard_stream {
    TP_STANDARD_OUTPUT = 1,
    TP_STANDARD_ERROR = 2
} tp_standard_stream;

/*
 * The process's own standard stream, which is not closed with tp_stream_close(). On Linux it is the
 * descriptor of that number. If that was closed when the process began, or is a socket now and was
 * not the same one then, the number belongs to something else, and a write returns TP_ERR_NO_FILE.
 */
void tp_stream_standard(tp_stream *stream, tp_standard_stream which);

/* Opens a file for appending; creates it if it does not exist, and empties it first if `anew`. (On
 * Windows no pipe: a write to it would have no time limit.) `path` is not kept. TP_ERR_NO_FILE,
 * with the system's code in tp_os_error(). */
tp_err tp_stream_open(tp_stream *stream, const char *path, bool anew);

/* Closes the stream. A write error that no tp_stream_write() has returned may be returned here. */
tp_err tp_stream_close(tp_stream *stream);

/*
 * Writes all `size` bytes, and waits for a slow reader for at most patience_ms in total (-1:
 * without limit). *written, unless `written` is NULL, is the number of bytes written, whatever the
 * result; on Windows, after a time-out, it is only a lower bound. An opened stream is used by one
 * thread at a time, a standard stream by any thread. TP_ERR_TIMED_OUT, TP_ERR_CANCELLED,
 * TP_ERR_NO_FILE (the standard stream is missing), or the system's error.
 *
 * It may wait longer for a file system that hangs. On Linux also if /proc is missing or no
 * descriptor is left, and other processes or threads fill the same pipe at the same moment.
 */
tp_err tp_stream_write(
    tp_stream *stream, const void *bytes, size_t size, int patience_ms, size_t *written);

/* Makes the write in which `writer` waits return TP_ERR_CANCELLED soon, and all later writes that
 * would wait at once. Any thread. Whether a system call that hangs can be cancelled depends on the
 * system. */
void tp_stream_cancel(tp_stream *stream, tp_thread *writer);

/* Writes one line to standard error before the process ends: "twinport: " and the text, of which
 * up to 511 bytes are shown. Waits a second at most. Any thread. */
void tp_stream_last_words(const char *format, ...) TP_PRINTF(1, 2);

#endif
