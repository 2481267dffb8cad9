/*
 * Output that cannot hurt the process that writes it: the log's file, standard output and error.
 *
 * Neither stdio nor write() alone will do. A pipe whose reader has gone, and a file that has grown
 * to its limit, raise a signal that ends the process; a pipe whose reader stands still holds the
 * writer for ever; and a program that was started with its standard streams closed has something
 * else behind their numbers: a socket, as soon as there is one. Here no signal is raised, nobody
 * waits longer than told, and nothing is written to a descriptor that is not the standard stream.
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
    intptr_t handle;       /* the system's; the back end's alone */
    bool standard;         /* tp_stream_standard() made it: it is looked at again at each write */
    atomic_bool cancelled; /* no write waits any more */
} tp_stream;

typedef enum tp_standard_stream {
    TP_STANDARD_OUTPUT = 1,
    TP_STANDARD_ERROR = 2
} tp_standard_stream;

/*
 * The process's own standard stream, which nobody closes. On Linux it is the descriptor of that
 * number, unless it was closed when the process began, or is a socket now that it was not then: it
 * is then somebody else's, and a write says TP_ERR_NO_FILE.
 */
void tp_stream_standard(tp_stream *stream, tp_standard_stream which);

/* Opens a file (on Windows: no pipe, a write to which has no limit) for appending, emptied before
 * if `anew`; made if it is not there. `path` is not needed afterwards. TP_ERR_NO_FILE, with the
 * system's own code beside it. */
tp_err tp_stream_open(tp_stream *stream, const char *path, bool anew);

/* What the file could not take shows here at the latest. */
tp_err tp_stream_close(tp_stream *stream);

/*
 * Writes it all, and waits at most patience_ms (-1: for ever) in all for a reader to make room.
 * `written`, unless it is NULL, says how many bytes have left, whatever the result; on Windows, of
 * a write that was not done in time, it is only a lower bound. One thread at a time for each stream
 * that was opened; any thread for standard ones. TP_ERR_TIMED_OUT, TP_ERR_CANCELLED, TP_ERR_NO_FILE
 * (the standard stream is not there), or the system's error.
 *
 * It may wait longer for a file system that hangs, and on Linux without /proc, or at the limit of
 * descriptors, when others fill the same pipe at the same moment.
 */
tp_err tp_stream_write(
    tp_stream *stream, const void *bytes, size_t size, int patience_ms, size_t *written);

/* Lets a write that `writer` waits in return TP_ERR_CANCELLED soon, and all later ones that would
 * have to wait at once. Any thread. Whether a system call that hangs can be cancelled is up to the
 * system. */
void tp_stream_cancel(tp_stream *stream, tp_thread *writer);

/* One line to standard error, for what the process cannot go on after: "twinport: " and the text,
 * of which 511 bytes are shown. Waits a second at most. */
void tp_stream_last_words(const char *format, ...) TP_PRINTF(1, 2);

#endif
