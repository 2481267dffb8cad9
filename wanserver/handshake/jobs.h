/*
 * A bounded FIFO queue of jobs, for threads that may lose their processor at any instruction: no
 * thread ever waits for another one in it. There is no lock; any number of threads may use either
 * end.
 *
 * SLOTS AND TICKETS. Each job gets a ticket, counted from 0. The job of ticket t is in slot t %
 * size. A slot's word `turn` is
 *
 *     2t      the slot is free for the job of ticket t;
 *     2t + 1  the job of ticket t is in the slot.
 *
 * The word of a slot only grows, so no value appears twice: there is no ABA problem. To put a job
 * in is to write the job and then 2t + 1. To take it is one compare-and-swap of 2t + 1 to 2(t +
 * size), which frees the slot in the same step. A thread that stops after that holds its job and
 * nothing else.
 *
 * `head` is the first ticket whose job may not have been taken. It advances by one, and only over a
 * ticket whose job has been taken. Every thread that finds it behind moves it, so no thread depends
 * on the one that took the job. Jobs are taken in the order of their tickets: that of ticket t + 1
 * only by a thread that has read head > t.
 *
 * A SLOT IS FREE WHEN ITS TICKET IS GIVEN. `waiting` counts a job from before it has its ticket
 * until after it has been taken, and is never above `size` for jobs that were accepted. If the slot
 * of ticket t were still full with the job of ticket t - size, then, because jobs are taken in
 * order, the jobs of all tickets from t - size to t would be in the queue: size + 1 of them.
 *
 * MEMORY ORDER. All operations are sequentially consistent: they are few beside a handshake's
 * hundred microseconds, and the argument about sleepers (handshakes.c) needs it for `turn`. `job`
 * and `since_ms` are atomic because a late taker may read them while the slot is written for a
 * later ticket; its compare-and-swap fails then. A thread that stops between getting its ticket and
 * writing 2t + 1 hides the jobs behind it from takers; this is acceptable because workers put jobs
 * in, and workers do not run at idle priority.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_JOBS_H
#define TWINPORT_WANSERVER_HANDSHAKE_JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

typedef struct tp__job_slot {
    _Atomic uint64_t turn;
    _Atomic uint64_t since_ms;
    void *_Atomic job;
} tp__job_slot;

typedef struct tp__jobs {
    size_t size;
    tp__job_slot *slots;
    _Atomic uint64_t head;
    _Atomic uint64_t tail; /* the next ticket */
    _Atomic size_t waiting;
} tp__jobs;

/* Creates a queue of `size` slots, 1 or more. TP_ERR_NO_MEMORY. */
tp_err tp__jobs_create(tp__jobs *jobs, size_t size);
/* Frees the slots; jobs that are still in the queue are not touched. Once; a queue that is all zero
 * is ignored. */
void tp__jobs_destroy(tp__jobs *jobs);

/* Puts in a job, which is not NULL, and notes the time. False: the queue is full. */
bool tp__jobs_put(tp__jobs *jobs, void *job, uint64_t now_ms);

/* Takes the first job; NULL: there is none. */
void *tp__jobs_take(tp__jobs *jobs);

/* Takes the first job if it was put in at `until_ms` or before; else NULL. */
void *tp__jobs_take_old(tp__jobs *jobs, uint64_t until_ms);

/* Whether there is a job to take. */
bool tp__jobs_any(tp__jobs *jobs);

/* The number of jobs in the queue. */
size_t tp__jobs_waiting(tp__jobs *jobs);

/* NULL, or the text of an invariant that does not hold (core/base/invariant.h). Walks over the
 * slots; only while no thread puts in or takes a job. */
const char *tp__jobs_check(tp__jobs *jobs);

#endif
