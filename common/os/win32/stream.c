/*
 * Output that cannot harm the process: see os/stream.h.
 *
 * Any thread. Writing raises no signal on Windows. But WriteFile() blocks as long as a pipe's
 * reader does not read, or while a user selects text in the console, and it blocks every other call
 * on the same pipe, even a query. So a write with a time limit runs on a thread of its own, which
 * is cancelled when the time is over. If it does not return even then (it may wait for another
 * thread's call), it is abandoned with its copy of the bytes, which it frees if it ever returns.
 * While a write to a stream is abandoned, no other write to that stream is started. Such writes are
 * single lines, and rare.
 */
#include "os/stream.h"

#include <stdlib.h>
#include <string.h>

#include "os/error.h"
#include "os/win32/system.h"

#define CANCEL_MS    200 /* how long a cancelled write may take to return */
#define MIN_WRITE_MS 20u /* the shortest limit, because the thread has to start first */

static HANDLE handle_of(const tp_stream *stream) {
    if (!stream->standard) {
        return (HANDLE)stream->handle;
    }
    HANDLE handle =
        GetStdHandle(stream->handle == TP_STANDARD_OUTPUT ? STD_OUTPUT_HANDLE : STD_ERROR_HANDLE);
    return handle ? handle : INVALID_HANDLE_VALUE;
}

void tp_stream_standard(tp_stream *stream, tp_standard_stream which) {
    *stream = (tp_stream){.handle = which, .standard = true};
}

/* Other programs may rename and delete the file while it is open, for example to rotate a log. */
tp_err tp_stream_open(tp_stream *stream, const char *path, bool anew) {
    HANDLE file =
        CreateFileA(path, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            NULL, anew ? CREATE_ALWAYS : OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        (void)tp_os_fail_last();
        return TP_ERR_NO_FILE;
    }
    *stream = (tp_stream){.handle = (intptr_t)file};
    return TP_OK;
}

tp_err tp_stream_close(tp_stream *stream) {
    return CloseHandle((HANDLE)stream->handle) ? TP_OK : tp_os_fail_last();
}

/* ---- writing without a limit ----------------------------------------------------------------- */

/* 0 or the system's error. `stream`: the stream that may be cancelled, or NULL. */
static DWORD stream_write_all(
    const tp_stream *stream, HANDLE to, const char *bytes, size_t size, size_t *written) {
    while (*written < size) {
        if (stream && atomic_load_explicit(&stream->cancelled, memory_order_acquire)) {
            return ERROR_OPERATION_ABORTED;
        }
        size_t left = size - *written;
        DWORD taken = 0;
        if (!WriteFile(to, bytes + *written, left < 65536 ? (DWORD)left : 65536, &taken, NULL)) {
            return GetLastError();
        }
        *written += taken;
    }
    return 0;
}

static tp_err stream_result(DWORD error) {
    if (error == ERROR_OPERATION_ABORTED) {
        return TP_ERR_CANCELLED;
    }
    return error ? tp_os_fail((int)error) : TP_OK;
}

/* ---- writing with a limit -------------------------------------------------------------------- */

typedef enum write_state {
    WRITE_RUNS,
    WRITE_DONE,
    WRITE_ABANDONED /* no thread waits for it */
} write_state;

/* The number of abandoned writes of each standard stream. */
static atomic_int abandoned[TP_STANDARD_ERROR + 1];

/* Shared by the calling thread and the writing thread; the last one to release it frees it. */
typedef struct timed_write {
    atomic_int users;
    atomic_int state; /* write_state */
    intptr_t which;   /* tp_standard_stream */
    HANDLE to;
    DWORD error;
    size_t written;
    size_t size;
    char bytes[];
} timed_write;

static void timed_write_release(timed_write *write) {
    if (atomic_fetch_sub(&write->users, 1) == 1) {
        free(write);
    }
}

static DWORD WINAPI run_timed_write(void *context) {
    timed_write *write = context;
    write->error = stream_write_all(NULL, write->to, write->bytes, write->size, &write->written);
    int runs = WRITE_RUNS;
    if (!atomic_compare_exchange_strong(&write->state, &runs, WRITE_DONE)) {
        atomic_fetch_sub(&abandoned[write->which], 1);
    }
    timed_write_release(write);
    return 0;
}

static tp_err timed_write_abandon(timed_write *write) {
    atomic_fetch_add(&abandoned[write->which], 1);
    int runs = WRITE_RUNS;
    if (!atomic_compare_exchange_strong(&write->state, &runs, WRITE_ABANDONED)) {
        atomic_fetch_sub(&abandoned[write->which], 1); /* it has returned after all */
    }
    return TP_ERR_TIMED_OUT;
}

static tp_err timed_write_wait(
    timed_write *write, HANDLE thread, DWORD patience_ms, size_t *written) {
    if (WaitForSingleObject(thread, patience_ms) != WAIT_OBJECT_0) {
        (void)CancelSynchronousIo(thread);
        if (WaitForSingleObject(thread, CANCEL_MS) != WAIT_OBJECT_0) {
            return timed_write_abandon(write);
        }
    }
    *written = write->written;
    return write->error == ERROR_OPERATION_ABORTED ? TP_ERR_TIMED_OUT : stream_result(write->error);
}

static tp_err write_timed(const tp_stream *stream, HANDLE to, const void *bytes, size_t size,
    DWORD patience_ms, size_t *written) {
    if (atomic_load(&abandoned[stream->handle]) > 0) {
        return TP_ERR_TIMED_OUT;
    }
    timed_write *write = malloc(sizeof *write + size);
    if (!write) {
        return TP_ERR_NO_MEMORY;
    }
    atomic_init(&write->users, 2);
    atomic_init(&write->state, WRITE_RUNS);
    write->which = stream->handle;
    write->to = to;
    write->error = 0;
    write->written = 0;
    write->size = size;
    memcpy(write->bytes, bytes, size);
    HANDLE thread = CreateThread(NULL, 0, run_timed_write, write, 0, NULL);
    if (!thread) {
        tp_err error = tp_os_fail_last();
        free(write);
        return error;
    }
    tp_err error = timed_write_wait(write, thread, patience_ms, written);
    (void)CloseHandle(thread);
    timed_write_release(write);
    return error;
}

/* ---- the calls ------------------------------------------------------------------------------- */

tp_err tp_stream_write(
    tp_stream *stream, const void *bytes, size_t size, int patience_ms, size_t *written) {
    size_t taken = 0;
    size_t *count = written ? written : &taken;
    *count = 0;
    HANDLE to = handle_of(stream);
    if (to == INVALID_HANDLE_VALUE) {
        return TP_ERR_NO_FILE;
    }
    if (patience_ms < 0 || !stream->standard) {
        return stream_result(stream_write_all(stream, to, bytes, size, count));
    }
    DWORD limit_ms = (DWORD)patience_ms > MIN_WRITE_MS ? (DWORD)patience_ms : MIN_WRITE_MS;
    return write_timed(stream, to, bytes, size, limit_ms, count);
}

void tp_stream_cancel(tp_stream *stream, tp_thread *writer) {
    atomic_store_explicit(&stream->cancelled, true, memory_order_release);
    (void)CancelSynchronousIo((HANDLE)(uintptr_t)writer->os[0]);
}
