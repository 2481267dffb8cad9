/*
 * Output that cannot hurt the process. See os/stream.h.
 *
 * Any thread. What the standard descriptors were when the process began is read before main() and
 * constant from then on.
 *
 * SIGPIPE and SIGXFSZ are raised for the thread that writes, so blocking them there for the time of
 * the write and taking what the write has raised leaves no trace: the program's handlers,
 * dispositions and other threads do not come into it.
 *
 * poll() cannot promise that a write does not wait: a terminal reports room for less than a line,
 * and of two that fill a pipe one finds it full. O_NONBLOCK is not for us to set on a standard
 * stream, whose description is shared with the process that started this one. So a pipe or terminal
 * is opened once more for the write, which makes a description that is ours alone; where that is
 * not to be had, poll() has to do.
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
#define SLICE_MS         50 /* how long a cancelled writer may not notice it */

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

/* Reopening a standard stream, to a file, say, is every program's right. A socket behind its number
 * comes of closing it. */
static bool is_ours(int descriptor, const struct stat *facts) {
    return at_start[descriptor].open &&
           (!S_ISSOCK(facts->st_mode) || (at_start[descriptor].device == facts->st_dev &&
                                             at_start[descriptor].inode == facts->st_ino));
}

void tp_stream_standard(tp_stream *stream, tp_standard_stream which) {
    *stream = (tp_stream){.handle = which, .standard = true};
}

tp_err tp_stream_open(tp_stream *stream, const char *path, bool anew) {
    const mode_t mode = S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH; /* less umask */
    /* O_NONBLOCK: opening a pipe without a reader fails instead of waiting for one. */
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

typedef struct held_signals {
    sigset_t before;
    bool pipe_pending; /* it was there already, and is not ours to take */
    bool size_pending;
} held_signals;

static void hold_signals(held_signals *held) {
    sigset_t raised_by_writing;
    sigset_t pending;
    (void)sigemptyset(&raised_by_writing);
    (void)sigaddset(&raised_by_writing, SIGPIPE);
    (void)sigaddset(&raised_by_writing, SIGXFSZ);
    (void)sigemptyset(&pending);
    (void)sigpending(&pending);
    held->pipe_pending = sigismember(&pending, SIGPIPE) == 1;
    held->size_pending = sigismember(&pending, SIGXFSZ) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &raised_by_writing, &held->before);
}

static void take_signal(int number) {
    static const struct timespec at_once = {0, 0};
    sigset_t raised;
    (void)sigemptyset(&raised);
    (void)sigaddset(&raised, number);
    int taken;
    do {
        taken = sigtimedwait(&raised, NULL, &at_once);
    } while (taken < 0 && errno == EINTR);
}

/* `error`: what the write said, 0 or an errno. */
static void release_signals(const held_signals *held, int error) {
    if (error == EPIPE && !held->pipe_pending) {
        take_signal(SIGPIPE);
    }
    if (error == EFBIG && !held->size_pending) {
        take_signal(SIGXFSZ);
    }
    (void)pthread_sigmask(SIG_SETMASK, &held->before, NULL);
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct output {
    tp_stream *stream;
    int descriptor;
    bool socket;
    bool file; /* it takes what it is given, at once or not at all */
    bool own;  /* the descriptor is to be closed again */
    uint64_t until_ms;
} output;

static void open_own_description(output *to) {
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", to->descriptor);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    to->own = own >= 0;
    to->descriptor = to->own ? own : to->descriptor;
}

static bool cancelled(const output *to) {
    return atomic_load_explicit(&to->stream->cancelled, memory_order_acquire);
}

/* 0: there is room, or write() will say what is wrong. ETIMEDOUT, ECANCELED. */
static int wait_for_room(const output *to) {
    struct pollfd room = {.fd = to->descriptor, .events = POLLOUT};
    while (true) {
        uint64_t now = tp_clock_ms();
        uint64_t left = to->until_ms > now ? to->until_ms - now : 0;
        int ready = poll(&room, 1, left < SLICE_MS ? (int)left : SLICE_MS);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return 0;
        }
        if (cancelled(to)) {
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

/* poll() saw room that is less than a piece, or gone: another writer was faster. */
static void pause_shortly(void) {
    const struct timespec pause = {0, 5000000};
    (void)nanosleep(&pause, NULL);
}

/* 0 or an errno. */
static int write_all(const output *to, const char *bytes, size_t size, size_t *written) {
    while (*written < size) {
        int error = to->file ? 0 : wait_for_room(to);
        if (error) {
            return error;
        }
        size_t left = size - *written;
        size_t piece = to->file || left < PIPE_BUF ? left : PIPE_BUF;
        ssize_t taken = write_piece(to, bytes + *written, piece);
        if (taken > 0) {
            *written += (size_t)taken;
        } else if (taken == 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
            if (cancelled(to)) {
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

static tp_err result_of(int error) {
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

    held_signals held;
    hold_signals(&held);
    int error = write_all(&to, bytes, size, count);
    release_signals(&held, error);
    if (to.own) {
        (void)close(to.descriptor);
    }
    return result_of(error);
}

void tp_stream_cancel(tp_stream *stream, tp_thread *writer) {
    (void)writer; /* looks by itself */
    atomic_store_explicit(&stream->cancelled, true, memory_order_release);
}
