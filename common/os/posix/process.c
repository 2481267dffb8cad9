/*
 * The process: its stop request, its limits, its use of the processor.
 *
 * The stop request is a semaphore that is never taken for good: whoever gets it gives it back, so
 * that every later wait is told as well. sem_post() is one of the few calls that a signal handler
 * may make. Any thread, but for tp_process_catch_stop().
 */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "os/error.h"
#include "os/process.h"
#include "os/thread.h"

static sem_t stop;
static tp_once stop_once;

static void create_stop(void) {
    if (sem_init(&stop, 0, 0) != 0) {
        perror("twinport: semaphore");
        abort();
    }
}

static void on_stop_signal(int number) {
    (void)number;
    int kept = errno;
    /* Fails only when it has been posted two thousand million times: the request stands. */
    (void)sem_post(&stop);
    errno = kept;
}

tp_err tp_process_catch_stop(void) {
    tp_once_run(&stop_once, create_stop);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop_signal;
    action.sa_flags = SA_RESTART;
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

static int wait_until(const struct timespec *until) {
    int result;
    do {
        result = until == NULL ? sem_wait(&stop) : sem_clockwait(&stop, CLOCK_MONOTONIC, until);
    } while (result != 0 && errno == EINTR);
    return result;
}

bool tp_process_wait_stop(int timeout_ms) {
    tp_once_run(&stop_once, create_stop);
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
    if (wait_until(timeout_ms < 0 ? NULL : &until) != 0) {
        return false;
    }
    (void)sem_post(&stop);
    return true;
}

void tp_process_request_stop(void) {
    tp_once_run(&stop_once, create_stop);
    (void)sem_post(&stop);
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
