/*
 * What a server program asks of its process: to be told to stop or to read its files again,
 * descriptors enough, and how much of the machine is its share.
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
 * Asks the system to tell the process to stop gently: SIGTERM and SIGINT on Linux; Ctrl-C, console
 * close and system shutdown on Windows. Once per process, before other threads start.
 *
 * A second such request ends the process at once, whatever it is doing, with the exit code
 * TP_PROCESS_ENDED_AT_ONCE: nothing is flushed or drained any more.
 */
#define TP_PROCESS_ENDED_AT_ONCE 3
tp_err tp_process_catch_stop(void);
/* Waits for that request, at most timeout_ms (-1: for ever). True once it has come. */
bool tp_process_wait_stop(int timeout_ms);
/* Makes tp_process_wait_stop() return true, as if the request had come; it never ends the process
 * by itself. Any thread. */
void tp_process_request_stop(void);

/* Asks the system to tell the process to read its files again: SIGHUP. Once per process, before
 * other threads start. TP_ERR_UNSUPPORTED on Windows, which has no such signal. */
tp_err tp_process_catch_reload(void);

typedef enum tp_process_event {
    TP_PROCESS_NOTHING, /* the time has passed */
    TP_PROCESS_STOP,    /* to stop; from now on every wait returns this */
    TP_PROCESS_RELOAD /* to read its files again; told once, however often it was asked meanwhile */
} tp_process_event;

/* As tp_process_wait_stop(), for both requests. By one thread at a time; a program that catches
 * reloads waits with this alone. */
tp_process_event tp_process_wait(int timeout_ms);

/* Raises the limit of open descriptors as far as the system lets it; returns the limit in force
 * (UINT64_MAX where there is none). */
uint64_t tp_process_raise_descriptor_limit(void);

typedef enum tp_priority {
    TP_PRIORITY_LOW = 0,    /* others go first: nice 10; BELOW_NORMAL_PRIORITY_CLASS */
    TP_PRIORITY_NORMAL = 1, /* as it was started */
    TP_PRIORITY_HIGH =
        2, /* before others: nice -5, which needs a permission; ABOVE_NORMAL_PRIORITY_CLASS */
    TP_PRIORITY_IDLE = 3 /* what others leave over: SCHED_IDLE; IDLE_PRIORITY_CLASS */
} tp_priority;

/* Sets the priority of the calling thread and of those started later from it: to be called before
 * other threads start (Windows: of the whole process). From TP_PRIORITY_IDLE there may be no way
 * back: on Linux that needs a permission. TP_ERR_INVALID, TP_ERR_ACCESS; then nothing has
 * changed. */
tp_err tp_process_set_priority(tp_priority priority);

/*
 * Has the calling thread run sooner when it wakes up, without a larger share of the processor: for
 * threads that answer others and never compute for long.
 *
 * Linux, from 6.12 on: the shortest scheduling slice, 0.1 ms, which threads started later from this
 * one inherit; a thread with a real-time policy stays as it is. Elsewhere: Windows has no slices;
 * the thread's priority is ABOVE_NORMAL within the process's class, which threads started from it
 * do not have.
 *
 * TP_ERR_UNSUPPORTED (an older kernel, or a thread that is idle
 * already), TP_ERR_ACCESS (a
 * container's profile, say), TP_ERR_OS: then it goes on as it was, and that is no harm. Any thread.
 */
tp_err tp_thread_ask_low_latency(void);

/* Processors by their number: processor n is bit n % 64 of word n / 64. */
#define TP_PROCESSORS_MAX 1024
typedef struct tp_processors {
    uint64_t bits[TP_PROCESSORS_MAX / 64];
} tp_processors;

/* Restricts the calling thread, and those started later from it, to these processors: to be called
 * before other threads start (Windows: the whole process, and processors 0 to 63). TP_ERR_INVALID:
 * none of them is there, or none is given; TP_ERR_UNSUPPORTED, TP_ERR_ACCESS, TP_ERR_OS. */
tp_err tp_process_set_processors(const tp_processors *processors);

#ifdef __cplusplus
}
#endif
#endif
