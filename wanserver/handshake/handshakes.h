/*
 * Threads of low priority for the Diffie-Hellman work, and the bounded queue before them: a flood
 * of handshakes uses up what the players leave over, not what they need.
 *
 * Every job that was taken (offer: true) is handed on exactly once: to `run` and then to `deliver`,
 * on one of the threads, or to `drop`, on the thread that stops. All memory is allocated at create.
 * Who offers a job never waits for one of the threads, not even for one that has lost the
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
    unsigned queue;   /* jobs that may wait, 1 or more */
    tp_handshake_priority priority;
    /* With TP_HANDSHAKE_IDLE: a job that has waited so long, up to 60,000 ms, is taken by one
     * thread more, of TP_HANDSHAKE_LOW, so that something is left of it while others use all
     * processors. 0: none. */
    unsigned overdue_ms;
    unsigned
        together_ms; /* what has run is delivered after so long, though more waits; 1 or more */
    void (*run)(void *job); /* does a job's work; may take long, must end */
    /* Is given jobs that one thread has run, in that order: as many as it has run while others
     * waited, up to TP__HANDSHAKES_TOGETHER and for together_ms, so that under load the workers are
     * not interrupted for each. */
    void (*deliver)(void *const *jobs, unsigned count);
    void (*drop)(void *job); /* is given a job that will not be run */
} tp__handshakes_options;

#define TP__HANDSHAKE_THREADS_MAX 64u
#define TP__HANDSHAKES_TOGETHER   8u

/* Makes it, stopped. TP_ERR_INVALID, TP_ERR_NO_MEMORY, TP_ERR_OS and the like. */
tp_err tp__handshakes_create(const tp__handshakes_options *options, tp__handshakes **handshakes);
/* Stopped, and no thread may use it any more. NULL is ignored. */
void tp__handshakes_destroy(tp__handshakes *handshakes);

/* Starts the threads; again after each stop. By one thread at a time, in turn with stop.
 * TP_ERR_STATE (it is started), TP_ERR_NO_MEMORY, TP_ERR_OS: then it is stopped as before. */
tp_err tp__handshakes_start(tp__handshakes *handshakes);

/* Leaves a job to the threads. False if the queue is full or it is stopped: the job stays the
 * caller's. Any thread, `run`, `deliver` and `drop` included; never waits. */
bool tp__handshakes_offer(tp__handshakes *handshakes, void *job);

/* Takes no more jobs, drops those that wait, and waits until those that run are delivered. Not from
 * `run` or `deliver`. Nothing if it is stopped. */
void tp__handshakes_stop(tp__handshakes *handshakes);

/* Jobs that wait now. Any thread. */
unsigned tp__handshakes_waiting(tp__handshakes *handshakes);

/* Jobs that the one thread more has run since it was made. Any thread. */
uint64_t tp__handshakes_overdue(const tp__handshakes *handshakes);

#endif
