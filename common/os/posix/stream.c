/*
 * Output that cannot harm the process: see os/stream.h.
 *
 * Any thread. What the standard descriptors were when the process began is read before main(), and
 * is constant from then on.
 *
 * SIGPIPE and SIGXFSZ are raised for the thread that writes. So they are blocked on that thread for
 * the time of the write, and a signal that the write has raised is consumed. The program's
 * handlers, dispositions and other threads are not affected.
 *
 * poll() cannot guarantee that a write does not wait: a terminal reports that it is writable when
 * it can take less than a line, and of two writers that fill a pipe one finds it full. O_NONBLOCK
 * must not be set on a standard stream, because its open file description is shared with the
 * process that started this one. So a pipe or terminal is opened again for the write, which creates
 * a description that belongs to this process alone. Where that is not possible, poll() has to do.
 */
#include "os/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/error.h"

#define STANDARD_STREAMS 3
#define SLICE_MS         50 /* how long a writer may take to notice that it is cancelled */

/* ---- which descriptor ------------------------------------------------------------------------ */

static struct {
    bool open;
    dev_t device;
    ino_t inode;
} at_start[STANDARD_STREAMS];

static void look_at_standard_streams(void) TP_BEFORE_MAIN;

static void look_at_standard_streams(void) {
    for (int i = 0; i < STANDARD_STREAMS; i++) {
        struct stat facts;
        if (fstat(i, &facts) == 0) {
            at_start[i].open = true;
            at_start[i].device = facts.st_dev;
            at_start[i].inode = facts.st_ino;
        }
    }
}

/* True if the descriptor is still the standard stream. A program may reopen a standard stream, to a
 * file for example. But if the number is a socket now, the stream was closed. */
static bool is_ours(int descriptor, const struct stat *facts) {
    return at_start[descriptor].open &&
           (!S_ISSOCK(facts->st_mode) || (at_start[descriptor].device == facts->st_dev &&
                                             at_start[descriptor].inode == facts->st_ino));
}

void tp_stream_standard(tp_stream *stream, tp_standard_stream which) {
    *stream = (tp_stream){.handle = which, .standard = true};
}

tp_err tp_stream_open(tp_stream *stream, const char *path, bool anew) {
    const mode_t mode =
        S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH; /* minus the umask */
    /* O_NONBLOCK: fails for a pipe without a reader instead of waiting for one. */
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int descriptor = open(path, anew ? flags | O_TRUNC : flags, mode);
    if (descriptor < 0) {
        (void)tp_os_fail_last();
        return TP_ERR_NO_FILE;
    }
    *stream = (tp_stream){.handle = descriptor};
    return TP_OK;
}

tp_err tp_stream_close(tp_stream *stream) {
    return close((int)stream->handle) == 0 ? TP_OK : tp_os_fail_last();
}

/* ---- no signal ------------------------------------------------------------------------------- */

typedef struct blocked_signals {
    sigset_t before;
    bool pipe_pending; /* it was pending before, so it is not consumed here */
    bool size_pending;
} blocked_signals;

static void block_signals(blocked_signals *blocked) {
    sigset_t raised_by_writing;
    sigset_t pending;
    (void)sigemptyset(&raised_by_writing);
    (void)sigaddset(&raised_by_writing, SIGPIPE);
    (void)sigaddset(&raised_by_writing, SIGXFSZ);
    (void)sigemptyset(&pending);
    (void)sigpending(&pending);
    blocked->pipe_pending = sigismember(&pending, SIGPIPE) == 1;
    blocked->size_pending = sigismember(&pending, SIGXFSZ) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &raised_by_writing, &blocked->before);
}

static void consume_signal(int number) {
    static const struct timespec at_once = {0, 0};
    sigset_t raised;
    (void)sigemptyset(&raised);
    (void)sigaddset(&raised, number);
    int taken;
    do {
        taken = sigtimedwait(&raised, NULL, &at_once);
    } while (taken < 0 && errno == EINTR);
}

/* `error`: the result of the write, 0 or an errno. */
static void restore_signals(const blocked_signals *blocked, int error) {
    if (error == EPIPE && !blocked->pipe_pending) {
        consume_signal(SIGPIPE);
    }
    if (error == EFBIG && !blocked->size_pending) {
        consume_signal(SIGXFSZ);
    }
    (void)pthread_sigmask(SIG_SETMASK, &blocked->before, NULL);
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct output {
    tp_stream *stream;
    int descriptor;
    bool socket;
    bool file; /* a regular file, which never has to be waited for */
    bool own;  /* the descriptor is closed after the write */
    uint64_t until_ms;
} output;

/* Opens the stream again, if possible, so that the write can be non-blocking. */
static void open_own_description(output *to) {
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", to->descriptor);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    to->own = own >= 0;
    to->descriptor = to->own ? own : to->descriptor;
}

static bool is_cancelled(const output *to) {
    return atomic_load_explicit(&to->stream->cancelled, memory_order_acquire);
}

/* 0: writable, or write() will return the error. ETIMEDOUT, ECANCELED. */
static int wait_writable(const output *to) {
    struct pollfd writable = {.fd = to->descriptor, .events = POLLOUT};
    while (true) {
        uint64_t now = tp_clock_ms();
        uint64_t left = to->until_ms > now ? to->until_ms - now : 0;
        int ready = poll(&writable, 1, left < SLICE_MS ? (int)left : SLICE_MS);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return 0;
        }
        if (is_cancelled(to)) {
            return ECANCELED;
        }
        if (ready == 0 && left <= SLICE_MS) {
            return ETIMEDOUT;
        }
    }
}

static ssize_t write_piece(const output *to, const char *bytes, size_t size) {
    if (to->socket) {
        return send(to->descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return write(to->descriptor, bytes, size);
}

/* After poll(), the space was less than a piece, or another writer has filled it. */
static void pause_shortly(void) {
    const struct timespec pause = {0, 5000000};
    (void)nanosleep(&pause, NULL);
}

/* 0 or an errno. */
static int stream_write_all(const output *to, const char *bytes, size_t size, size_t *written) {
    while (*written < size) {
        int error = to->file ? 0 : wait_writable(to);
        if (error) {
            return error;
        }
        size_t left = size - *written;
        size_t piece = to->file || left < PIPE_BUF ? left : PIPE_BUF;
        ssize_t taken = write_piece(to, bytes + *written, piece);
        if (taken > 0) {
            *written += (size_t)taken;
        } else if (taken == 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
            if (is_cancelled(to)) {
                return ECANCELED;
            }
            if (tp_clock_ms() >= to->until_ms) {
                return ETIMEDOUT;
            }
            pause_shortly();
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

static tp_err stream_result(int error) {
    switch (error) {
    case 0:
        return TP_OK;
    case ETIMEDOUT:
        return TP_ERR_TIMED_OUT;
    case ECANCELED:
        return TP_ERR_CANCELLED;
    default:
        return tp_os_fail(error);
    }
}

tp_err tp_stream_write(
    tp_stream *stream, const void *bytes, size_t size, int patience_ms, size_t *written) {
    struct stat facts;
    size_t taken = 0;
    size_t *count = written ? written : &taken;
    *count = 0;
    output to = {.stream = stream,
        .descriptor = (int)stream->handle,
        .until_ms = patience_ms < 0 ? UINT64_MAX : tp_clock_ms() + (uint64_t)patience_ms};
    if (fstat(to.descriptor, &facts) != 0) {
        (void)tp_os_fail_last();
        return TP_ERR_NO_FILE;
    }
    if (stream->standard && !is_ours(to.descriptor, &facts)) {
        return TP_ERR_NO_FILE;
    }
    to.socket = S_ISSOCK(facts.st_mode);
    to.file = S_ISREG(facts.st_mode);

    if (stream->standard && (S_ISFIFO(facts.st_mode) || S_ISCHR(facts.st_mode))) {
        open_own_description(&to);
    }

    blocked_signals blocked;
    block_signals(&blocked);
    int error = stream_write_all(&to, bytes, size, count);
    restore_signals(&blocked, error);
    if (to.own) {
        (void)close(to.descriptor);
    }
    return stream_result(error);
}

void tp_stream_cancel(tp_stream *stream, tp_thread *writer) {
    (void)writer; /* it reads `cancelled` itself */
    atomic_store_explicit(&stream->cancelled, true, memory_order_release);
}
