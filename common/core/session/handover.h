/*
 * Where the flush owner's role is: see handover.c.
 */
#ifndef TWINPORT_CORE_SESSION_HANDOVER_H
#define TWINPORT_CORE_SESSION_HANDOVER_H

#include "core/engine/session_state.h"

/* The worker that has the flush owner's role while no send is in progress; NULL: none. Its own
 * thread. */
static inline void tp__session_set_flusher(tp__session *session, struct tp__worker *worker) {
    atomic_store_explicit(&session->flusher, worker, memory_order_relaxed);
}

#endif
