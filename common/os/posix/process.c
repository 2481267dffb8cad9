/*
 * The process: requests to stop and to reload, its limits, its processor time.
 *
 * Any thread, except that tp_process_catch_stop(), tp_process_catch_reload() and tp_process_wait()
 * are restricted in twinport/process.h. Signal handlers set the flags.
 *
 * A request is a flag and, for the threads that wait, a post of the semaphore; the flag is set
 * first. A request to stop stays: the thread that takes its post posts again, so that each later
 * wait returns too. A request to reload is taken with its flag. If two requests came before one was
 * taken, a post without a flag is left, and the thread that takes it continues to wait. sem_post()
 * is one of the few functions that a signal handler may call.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "os/error.h"
#include "os/process.h"
#include "os/stream.h"
#include "os/thread.h"

static sem_t requests;
static tp_once requests_once;
static atomic_bool asked_to_stop; /* lock-free, so that a signal handler may set them */
static atomic_bool asked_to_reload;
static atomic_bool signalled_to_stop; /* by a signal; asked_to_stop is also set by the program */

static void create_requests(void) {
    if (sem_init(&requests, 0, 0) != 0) {
        tp_stream_last_words("semaphore: %s", strerror(errno));
        abort();
    }
}

/* Calls only what a signal handler may call. */
static void end_at_once(void) {
    static const char line[] = "twinport: stop requested a second time: exiting at once\n";
    tp_stream error;
    tp_stream_standard(&error, TP_STANDARD_ERROR);
    (void)tp_stream_write(&error, line, sizeof line - 1, 0, NULL);
    _exit(TP_PROCESS_ENDED_AT_ONCE);
}

static void on_signal(int number) {
    int kept = errno;
    if (number != SIGHUP && atomic_exchange(&signalled_to_stop, true)) {
        end_at_once();
    }
    atomic_store(number == SIGHUP ? &asked_to_reload : &asked_to_stop, true);
    /* Fails only at a count of 2^31-1; the flag is set all the same. */
    (void)sem_post(&requests);
    errno = kept;
}

static tp_err catch_signal(int number) {
    tp_once_run(&requests_once, create_requests);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    (void)sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL) != 0 ? tp_os_fail_last() : TP_OK;
}

tp_err tp_process_catch_stop(void) {
    tp_err error = catch_signal(SIGTERM);
    return error ? error : catch_signal(SIGINT);
}

tp_err tp_process_catch_reload(void) {
    return catch_signal(SIGHUP);
}

static bool wait_until(const struct timespec *until) {
    int result;
    do {
        result =
            until == NULL ? sem_wait(&requests) : sem_clockwait(&requests, CLOCK_MONOTONIC, until);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

tp_process_event tp_process_wait(int timeout_ms) {
    tp_once_run(&requests_once, create_requests);
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
    }
    while (wait_until(timeout_ms < 0 ? NULL : &until)) {
        if (atomic_load(&asked_to_stop)) {
            (void)sem_post(&requests);
            return TP_PROCESS_STOP;
        }
        if (atomic_exchange(&asked_to_reload, false)) {
            return TP_PROCESS_RELOAD;
        }
    }
    return TP_PROCESS_NOTHING;
}

bool tp_process_wait_stop(int timeout_ms) {
    return tp_process_wait(timeout_ms) == TP_PROCESS_STOP;
}

void tp_process_request_stop(void) {
    tp_once_run(&requests_once, create_requests);
    atomic_store(&asked_to_stop, true);
    (void)sem_post(&requests);
}

/* Opens closed standard streams in the wrong direction, so that their use fails as with closed
 * ones. */
static void reserve_standard_streams(void) {
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++) {
        /* open() returns the lowest free descriptor, which is i: those below are open by now. */
        if (fcntl(i, F_GETFD) < 0) {
            (void)open("/dev/null", i == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

void tp_process_guard(void) {
    static const int harmless[] = {SIGPIPE, SIGXFSZ, SIGUSR1, SIGUSR2};
    reserve_standard_streams();
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = SIG_IGN;
        (void)sigemptyset(&action.sa_mask);
        (void)sigaction(harmless[i], &action, NULL); /* fails only for invalid numbers */
    }
}

uint64_t tp_process_id(void) {
    return (uint64_t)getpid();
}

uint64_t tp_process_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = limit;
        raised.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
}

uint64_t tp_process_cpu_ns(void) {
    struct timespec used = {0, 0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000U + (uint64_t)used.tv_nsec;
}
