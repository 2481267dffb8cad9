/*
 * Which worker is a session's flusher: see handover.c.
 */
#ifndef TWINPORT_CORE_SESSION_HANDOVER_H
#define TWINPORT_CORE_SESSION_HANDOVER_H

#include <assert.h>

#include "core/engine/server_state.h"

/* Sets the worker that is the flusher while no send is in progress; NULL: none. On that worker's
 * thread. */
static inline void tp__session_set_flusher(tp__session *session, const tp__worker *worker) {
    TP_ASSERT_WORKER(session);
    uint8_t flusher = worker ? (uint8_t)(worker->index + 1) : 0;
    atomic_store_explicit(&session->flusher, flusher, memory_order_relaxed);
}

_Static_assert(TP_PORT_MAX_WORKERS < UINT8_MAX, "a worker's index + 1 fits in `flusher`");

/* Is this worker the flusher? On its own thread. */
static inline bool tp__session_is_flusher(const tp__session *session, const tp__worker *worker) {
    assert(worker->server == session->server);
    TP_ASSERT_ON_WORKER(worker);
    return atomic_load_explicit(&session->flusher, memory_order_relaxed) == worker->index + 1;
}

#endif
