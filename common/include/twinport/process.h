/*
 * The process of a server program: requests to stop or to reload, the limit of open descriptors,
 * priority and processors.
 */
#ifndef TWINPORT_PROCESS_H
#define TWINPORT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Catches the system's requests to stop: SIGTERM and SIGINT on Linux; Ctrl-C, console close and
 * system shutdown on Windows. Call it once per process, before other threads start.
 *
 * A second such request ends the process at once, with the exit code TP_PROCESS_ENDED_AT_ONCE;
 * nothing is flushed or drained any more.
 */
#define TP_PROCESS_ENDED_AT_ONCE 3
tp_err tp_process_catch_stop(void);
/* Waits for that request, at most timeout_ms (-1: for ever). True if it has come, now or before. */
bool tp_process_wait_stop(int timeout_ms);
/* Makes tp_process_wait_stop() return true, as if the request had come; it never ends the process
 * by itself. Any thread. */
void tp_process_request_stop(void);

/* Catches the system's request to reload files: SIGHUP. Call it once per process, before other
 * threads start. TP_ERR_UNSUPPORTED on Windows, which has no such signal. */
tp_err tp_process_catch_reload(void);

typedef enum tp_process_event {
    TP_PROCESS_NOTHING, /* the time is over */
    TP_PROCESS_STOP,    /* stop; from now on every wait returns this */
    TP_PROCESS_RELOAD   /* reload; requests that come before it is returned count as one */
} tp_process_event;

/* The same as tp_process_wait_stop(), for both requests. One thread at a time; a program that
 * catches reloads waits with this function only. */
tp_process_event tp_process_wait(int timeout_ms);

/* Raises the limit of open descriptors as far as the system allows; returns the new limit
 * (UINT64_MAX if there is none). */
uint64_t tp_process_raise_descriptor_limit(void);

typedef enum tp_priority {
    TP_PRIORITY_LOW = 0,    /* after other programs: nice 10; BELOW_NORMAL_PRIORITY_CLASS */
    TP_PRIORITY_NORMAL = 1, /* not changed */
    /* Before other programs: nice -5, which needs a permission; ABOVE_NORMAL_PRIORITY_CLASS. */
    TP_PRIORITY_HIGH = 2,
    TP_PRIORITY_IDLE = 3 /* only otherwise idle time: SCHED_IDLE; IDLE_PRIORITY_CLASS */
} tp_priority;

/* Sets the priority of the calling thread and of threads that it starts later, so call it before
 * other threads start (Windows: of the whole process). To leave TP_PRIORITY_IDLE again needs a
 * permission on Linux. TP_ERR_INVALID, TP_ERR_ACCESS: then nothing has changed. */
tp_err tp_process_set_priority(tp_priority priority);

/*
 * Makes the calling thread run sooner when it wakes up, without a larger share of the processor:
 * for threads that answer others and never compute for long.
 *
 * Linux 6.12 and later: the shortest scheduling slice, 0.1 ms, which threads started later from
 * this one inherit; a thread with a real-time policy is not changed. Windows, which has no slices:
 * the priority ABOVE_NORMAL within the process's class; threads started from it do not inherit it.
 *
 * TP_ERR_UNSUPPORTED (an older kernel, or a thread that is already idle), TP_ERR_ACCESS (a
 * container's profile, for example), TP_ERR_OS: the thread is not changed, and the program can
 * ignore that. Any thread.
 */
tp_err tp_thread_ask_low_latency(void);

/* A set of processors: processor n is bit n % 64 of word n / 64. */
#define TP_PROCESSORS_MAX 1024
typedef struct tp_processors {
    uint64_t bits[TP_PROCESSORS_MAX / 64];
} tp_processors;

/* Restricts the calling thread, and threads that it starts later, to these processors, so call it
 * before other threads start (Windows: the whole process, and only processors 0 to 63).
 * TP_ERR_INVALID: none is given, or none of them exists; TP_ERR_UNSUPPORTED, TP_ERR_ACCESS,
 * TP_ERR_OS. */
tp_err tp_process_set_processors(const tp_processors *processors);

#ifdef __cplusplus
}
#endif
#endif
