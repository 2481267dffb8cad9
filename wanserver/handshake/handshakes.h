/*
 * Threads of low priority for the Diffie-Hellman work, and the bounded queue before them. A flood
 * of handshakes uses the processor time that the sessions leave, and not what they need.
 *
 * Every job that was accepted (offer returned true) is passed on exactly once: to `run` and then to
 * `deliver`, on one of the threads, or to `drop`, on the thread that stops. All memory is allocated
 * at create. Offer never waits for a handshake thread, not even for one that has lost its
 * processor: there is no lock between them.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_HANDSHAKES_H
#define TWINPORT_WANSERVER_HANDSHAKE_HANDSHAKES_H

#include <stdbool.h>
#include <stdint.h>

#include "twinport/error.h"
#include "twinport/wanserver.h"

typedef struct tp__handshakes tp__handshakes;

typedef struct tp__handshakes_options {
    unsigned threads; /* 1..TP__HANDSHAKE_THREADS_MAX */
    unsigned queue;   /* jobs that may be queued, 1 or more */
    tp_handshake_priority priority;
    /* With TP_HANDSHAKE_IDLE: a job that has waited this long, up to 60,000 ms, is taken by the
     * reserve thread, which has TP_HANDSHAKE_LOW, so that handshakes make progress while other
     * programs use all processors. 0: there is no reserve thread. */
    unsigned overdue_ms;
    /* Finished jobs are delivered after this time even if more are waiting; 1 or more. */
    unsigned batch_ms;
    void (*run)(void *job); /* does the work of a job; may take long, must return */
    /* Receives jobs that one thread has run, in that order: as many as it has run while others
     * waited, up to TP__HANDSHAKES_BATCH and for batch_ms, so that under load the workers are not
     * interrupted for each job. */
    void (*deliver)(void *const *jobs, unsigned count);
    void (*drop)(void *job); /* discards a job that will not be run */
} tp__handshakes_options;

#define TP__HANDSHAKE_THREADS_MAX 64u
#define TP__HANDSHAKES_BATCH      8u

/* Creates it in the stopped state. TP_ERR_INVALID, TP_ERR_NO_MEMORY, TP_ERR_OS and other errors of
 * the system. */
tp_err tp__handshakes_create(const tp__handshakes_options *options, tp__handshakes **handshakes);
/* Frees it. It must be stopped, and no thread may use it any more. NULL is ignored. */
void tp__handshakes_destroy(tp__handshakes *handshakes);

/* Starts the threads; may be called again after each stop. Start and stop are called by one thread
 * at a time. TP_ERR_STATE (already started), TP_ERR_NO_MEMORY, TP_ERR_OS: then it is still
 * stopped. */
tp_err tp__handshakes_start(tp__handshakes *handshakes);

/* Passes a job to the threads. False if the queue is full or the threads are stopped: the job
 * remains the caller's. Any thread, also from `run`, `deliver` and `drop`. Never waits. */
bool tp__handshakes_offer(tp__handshakes *handshakes, void *job);

/* Accepts no more jobs, drops those that are queued, and waits until those that run are delivered.
 * Must not be called from `run` or `deliver`. No effect if it is stopped. */
void tp__handshakes_stop(tp__handshakes *handshakes);

/* Jobs that are queued now. Any thread. */
unsigned tp__handshakes_waiting(tp__handshakes *handshakes);

/* Jobs that the reserve thread has run since create because they had waited for overdue_ms or while
 * it led. Any thread. */
uint64_t tp__handshakes_overdue(const tp__handshakes *handshakes);

#endif
