/*
 * The queue of the handshake threads; jobs.h has the argument for its correctness. Any thread. Owns
 * the slots and not the jobs.
 */
#include "wanserver/handshake/jobs.h"

#include <assert.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"

tp_err tp__jobs_create(tp__jobs *jobs, size_t size) {
    assert(size >= 1);
    *jobs = (tp__jobs){.size = size};
    jobs->slots = tp__allocate_zeroed(size, sizeof *jobs->slots);
    if (jobs->slots == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < size; i++) {
        atomic_store(&jobs->slots[i].turn, 2 * (uint64_t)i);
    }
    return TP_OK;
}

void tp__jobs_destroy(tp__jobs *jobs) {
    tp__free(jobs->slots);
    jobs->slots = NULL;
}

static tp__job_slot *slot_of(tp__jobs *jobs, uint64_t ticket) {
    return &jobs->slots[ticket % jobs->size];
}

bool tp__jobs_put(tp__jobs *jobs, void *job, uint64_t now_ms) {
    assert(job);
    if (atomic_fetch_add(&jobs->waiting, 1) >= jobs->size) {
        atomic_fetch_sub(&jobs->waiting, 1);
        return false;
    }
    uint64_t ticket = atomic_fetch_add(&jobs->tail, 1);
    tp__job_slot *slot = slot_of(jobs, ticket);
    assert(atomic_load(&slot->turn) == 2 * ticket); /* it is free: see jobs.h */
    atomic_store(&slot->job, job);
    atomic_store(&slot->since_ms, now_ms);
    atomic_store(&slot->turn, 2 * ticket + 1);
    return true;
}

/* Moves head over tickets whose jobs have been taken. True: the job of ticket *head is in its
 * slot. */
static bool jobs_find_first(tp__jobs *jobs, uint64_t *head) {
    for (;;) {
        *head = atomic_load(&jobs->head);
        uint64_t turn = atomic_load(&slot_of(jobs, *head)->turn);
        if (turn == 2 * *head + 1) {
            return true;
        }
        if (turn == 2 * *head) {
            return false; /* the ticket has not been given, or its job is being put in */
        }
        uint64_t taken = *head;
        (void)atomic_compare_exchange_strong(&jobs->head, &taken, taken + 1);
    }
}

void *tp__jobs_take_old(tp__jobs *jobs, uint64_t until_ms) {
    uint64_t head;
    while (jobs_find_first(jobs, &head)) {
        tp__job_slot *slot = slot_of(jobs, head);
        uint64_t since_ms = atomic_load(&slot->since_ms);
        void *job = atomic_load(&slot->job);
        uint64_t full = 2 * head + 1;
        if (since_ms > until_ms) {
            return NULL; /* if this is the time of a later ticket, it is later still */
        }
        if (atomic_compare_exchange_strong(&slot->turn, &full, 2 * (head + jobs->size))) {
            (void)atomic_compare_exchange_strong(&jobs->head, &head, head + 1);
            atomic_fetch_sub(&jobs->waiting, 1);
            assert(job);
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
    return jobs_find_first(jobs, &head);
}

size_t tp__jobs_waiting(tp__jobs *jobs) {
    return atomic_load(&jobs->waiting);
}

const char *tp__jobs_check(tp__jobs *jobs) {
    uint64_t head = atomic_load(&jobs->head);
    uint64_t tail = atomic_load(&jobs->tail);
    TP__INVARIANT(head <= tail && tail <= head + jobs->size);
    TP__INVARIANT(atomic_load(&jobs->waiting) == tail - head);
    for (uint64_t ticket = head; ticket < head + jobs->size; ticket++) {
        const tp__job_slot *slot = slot_of(jobs, ticket);
        bool full = ticket < tail;
        TP__INVARIANT(atomic_load(&slot->turn) == 2 * ticket + full);
        TP__INVARIANT(!full || atomic_load(&slot->job) != NULL);
    }
    return NULL;
}
