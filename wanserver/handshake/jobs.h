/*
 * A bounded queue of jobs, first come first served, for threads that may lose the processor
 * anywhere: nobody ever waits for anybody in it. No lock, any number of threads at both ends.
 *
 * PLACES AND TURNS. The job of turn t, counted from 0, is in place t % size. A place's word `turn`
 * is
 *     2t      it is free for the job of turn t;
 *     2t + 1  the job of turn t is in it.
 * Words only grow, so none is ever met again: no ABA. To put a job in is to write it, then 2t + 1;
 * to take it is the one compare-and-swap of 2t + 1 to 2(t + size), which gives the place back in
 * the same step. A thread that stands still after that holds its job and nothing else.
 *
 * `head` is the first turn that is perhaps not taken. It goes on by one only over a turn that has
 * been taken, and whoever finds it behind moves it, so nothing depends on the one who took. Turns
 * are taken in order: turn t + 1 only by one who has read head > t.
 *
 * A PLACE IS FREE WHEN ITS TURN COMES. `waiting` counts a job from before it has its turn until
 * after it is taken, and is never above size for jobs that were let in. Were the place of turn t
 * still full with turn t - size, then, by the order of taking, all turns from there to t would be
 * in: size + 1 of them.
 *
 * MEMORY ORDER. All is sequentially consistent: it is a few operations in a handshake's hundred
 * microseconds, and the sleepers' argument (handshakes.c) needs it for `turn`. `job` and `since_ms`
 * are atomic because one who comes too late may read them while the place is written anew; its
 * compare-and-swap fails then. A thread that stands still between getting its turn and writing 2t +
 * 1 hides those behind it from takers: putters are the workers, which do not run at idle priority.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_JOBS_H
#define TWINPORT_WANSERVER_HANDSHAKE_JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

typedef struct tp__job_place {
    _Atomic uint64_t turn;
    _Atomic uint64_t since_ms;
    void *_Atomic job;
} tp__job_place;

typedef struct tp__jobs {
    size_t size;
    tp__job_place *places;
    _Atomic uint64_t head;
    _Atomic uint64_t tail; /* the next turn to be given */
    _Atomic size_t waiting;
} tp__jobs;

/* `size` places, from 1. TP_ERR_NO_MEMORY. */
tp_err tp__jobs_create(tp__jobs *jobs, size_t size);
/* What is still in it is nobody's any more. Once; all zero is ignored. */
void tp__jobs_destroy(tp__jobs *jobs);

/* Puts a job in, not NULL, noting the time. False: it is full. */
bool tp__jobs_put(tp__jobs *jobs, void *job, uint64_t now_ms);

/* Takes the first, or NULL: there is none. */
void *tp__jobs_take(tp__jobs *jobs);

/* Takes the first if it came at `until_ms` or before, or NULL. */
void *tp__jobs_take_old(tp__jobs *jobs, uint64_t until_ms);

/* Whether there is one to be taken. */
bool tp__jobs_any(tp__jobs *jobs);

/* Jobs in it now. */
size_t tp__jobs_waiting(tp__jobs *jobs);

#endif
