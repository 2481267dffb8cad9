/*
 * The backlog of a slow reader is kept as bytes, one frame behind the other, and not as packets
 * that each keep a chunk.
 *
 * While a send waits for the system, the flusher has nothing to do. It opens the session's backlog.
 * From then until the send is done, any thread that pushes may take the backlog, move what is
 * queued into runs (packet_internal.h) at its end, and open it again. So a pusher delays the
 * flusher only while it moves what it has found. What is queued costs about its own size, whichever
 * thread pushes, and the flusher finds it in the order of arrival. A session whose sends are done
 * at once never opens its backlog.
 *
 *     OWNED --flusher--> OPEN --pusher---> TAKEN --pusher---> OPEN
 *                        OPEN --flusher--> OWNED
 *                                          TAKEN --flusher--> WANTED --pusher--> OWNED
 *
 * WANTED: the flusher's send is done while a pusher has the backlog. The flusher leaves the
 * session, its reference included, to the pusher, which passes the flush on when it is done, as a
 * thread does whose push has made it the flusher.
 *
 * MEMORY ORDER. Each step out of OPEN acquires; each step into OPEN releases, and so does the one
 * out of WANTED: the thread that has the backlog sees everything that was done to it. For no packet
 * to be left behind, more is needed: a pusher reads the state after its push, and a thread that
 * opens the backlog looks at the queue after that. All four steps are sequentially consistent, so
 * at least one of the two sees the other's. tests/model/compact.pml explores this.
 */
#ifndef TWINPORT_CORE_SESSION_COMPACT_H
#define TWINPORT_CORE_SESSION_COMPACT_H

#include "core/engine/session_state.h"
#include "os/compiler.h"

struct tp__send_batch;

typedef enum tp__backlog_state {
    TP__BACKLOG_OWNED, /* the flusher's; 0: the state of a new session */
    TP__BACKLOG_OPEN,
    TP__BACKLOG_TAKEN,
    TP__BACKLOG_WANTED
} tp__backlog_state;

/* May the flusher use the backlog? Acquire: see above. The flusher only. */
static inline bool tp__backlog_is_owned(const tp__session *session) {
    return TP_LIKELY(
        atomic_load_explicit(&session->backlog_state, memory_order_acquire) == TP__BACKLOG_OWNED);
}

/* Has any thread the backlog? For assertions: that thread alone asks. */
static inline bool tp__backlog_is_had(const tp__session *session) {
    return atomic_load_explicit(&session->backlog_state, memory_order_relaxed) != TP__BACKLOG_OPEN;
}

/* Called when the flusher's send is done. True: the backlog is its own again. False: it has nothing
 * more to do with the session, and its reference has gone to the pusher that passes the flush
 * on. */
bool tp__backlog_own_again(tp__session *session);

/* The same while the send is in progress, to take it back. False: a pusher has the backlog. The
 * flusher only. */
bool tp__backlog_own_if_open(tp__session *session);

static inline bool tp__backlog_own(tp__session *session) {
    return tp__backlog_is_owned(session) || tp__backlog_own_again(session);
}

/* Called after a push when there is a flusher: if its send waits, moves what is queued into runs.
 * The caller has a reference to the session, or is its owner. Any thread. */
void tp__compact_slow(tp__session *session);

static inline void tp__compact(tp__session *session) {
    if (TP_UNLIKELY(atomic_load_explicit(&session->backlog_state, memory_order_seq_cst) !=
                    TP__BACKLOG_OWNED)) {
        tp__compact_slow(session);
    }
}

/*
 * Called when the session's send waits, or is about to be with the system: replaces what the send
 * batch and the backlog reference by copies where that saves memory, and opens the backlog. The
 * flusher only. The batch's buffers must be the caller's to change; tp_socket_send_waits() tells
 * when they are.
 */
void tp__compact_waiting(tp__session *session);

#endif
