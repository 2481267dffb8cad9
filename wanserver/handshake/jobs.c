/*
 * See jobs.h, which has the argument. Any thread; holds the places alone.
 */
#include "wanserver/handshake/jobs.h"

#include "core/memory/memory.h"

tp_err tp__jobs_create(tp__jobs *jobs, size_t size) {
    *jobs = (tp__jobs){.size = size};
    jobs->places = tp__allocate_zeroed(size, sizeof *jobs->places);
    if (jobs->places == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < size; i++) {
        atomic_store(&jobs->places[i].turn, 2 * (uint64_t)i);
    }
    return TP_OK;
}

void tp__jobs_destroy(tp__jobs *jobs) {
    tp__free(jobs->places);
    jobs->places = NULL;
}

static tp__job_place *place_of(tp__jobs *jobs, uint64_t turn) {
    return &jobs->places[turn % jobs->size];
}

bool tp__jobs_put(tp__jobs *jobs, void *job, uint64_t now_ms) {
    if (atomic_fetch_add(&jobs->waiting, 1) >= jobs->size) {
        atomic_fetch_sub(&jobs->waiting, 1);
        return false;
    }
    uint64_t turn = atomic_fetch_add(&jobs->tail, 1);
    tp__job_place *place = place_of(jobs, turn);
    atomic_store(&place->job, job);
    atomic_store(&place->since_ms, now_ms);
    atomic_store(&place->turn, 2 * turn + 1);
    return true;
}

/* Moves head over turns that have been taken. True: the job of turn *head is there. */
static bool find_first(tp__jobs *jobs, uint64_t *head) {
    for (;;) {
        *head = atomic_load(&jobs->head);
        uint64_t turn = atomic_load(&place_of(jobs, *head)->turn);
        if (turn == 2 * *head + 1) {
            return true;
        }
        if (turn == 2 * *head) {
            return false; /* it has not come, or is on its way in */
        }
        uint64_t taken = *head;
        (void)atomic_compare_exchange_strong(&jobs->head, &taken, taken + 1);
    }
}

void *tp__jobs_take_old(tp__jobs *jobs, uint64_t until_ms) {
    uint64_t head;
    while (find_first(jobs, &head)) {
        tp__job_place *place = place_of(jobs, head);
        uint64_t since_ms = atomic_load(&place->since_ms);
        void *job = atomic_load(&place->job);
        uint64_t full = 2 * head + 1;
        if (since_ms > until_ms) {
            return NULL; /* or this is of a later turn, and later still */
        }
        if (atomic_compare_exchange_strong(&place->turn, &full, 2 * (head + jobs->size))) {
            (void)atomic_compare_exchange_strong(&jobs->head, &head, head + 1);
            atomic_fetch_sub(&jobs->waiting, 1);
            return job;
        }
    }
    return NULL;
}

void *tp__jobs_take(tp__jobs *jobs) {
    return tp__jobs_take_old(jobs, UINT64_MAX);
}

bool tp__jobs_any(tp__jobs *jobs) {
    uint64_t head;
    return find_first(jobs, &head);
}

size_t tp__jobs_waiting(tp__jobs *jobs) {
    return atomic_load(&jobs->waiting);
}
