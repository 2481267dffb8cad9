/*
 * What waits for a slow reader is kept as bytes, one frame behind the other, not as packets that
 * each hold a chunk.
 *
 * While a send waits for the system the flush owner has nothing to do: it opens the session's
 * `pending`, and from then until its send is done whoever pushes may take it, moves what is queued
 * into runs (packet_internal.h) at its end, and opens it again. So the owner's send is not held up
 * by a pusher, but for the time that one moves what it has found; what is queued costs about its
 * own size whoever pushes, and the owner finds it in the order of arrival when it comes back. A
 * session whose sends are done at once never opens.
 *
 *     OWNED ---owner---> OPEN ---pusher---> TAKEN ---pusher---> OPEN
 *                        OPEN ---owner----> OWNED
 *                                           TAKEN ---owner----> WANTED ---pusher---> OWNED
 *
 * WANTED: the owner's send is done while a pusher is at work. The owner goes its way, and the
 * pusher passes the flush on when it is done, as one does whose push has made it the owner.
 *
 * MEMORY ORDER. Each step out of OPEN acquires, each into it releases, as does the one out of
 * WANTED: who has `pending` sees all that was done to it. That nothing is left behind needs more:
 * who pushes looks at the state behind its push, who opens looks at the queue behind its opening,
 * all four sequentially consistent, so that one of the two sees the other. tests/model/compact.pml
 * explores it.
 */
#ifndef TWINPORT_CORE_SESSION_COMPACT_H
#define TWINPORT_CORE_SESSION_COMPACT_H

#include "core/engine/session_state.h"
#include "os/compiler.h"

struct tp__flight;

typedef enum tp__pending_state {
    TP__PENDING_OWNED, /* the flush owner's; 0: that of a new session */
    TP__PENDING_OPEN,
    TP__PENDING_TAKEN,
    TP__PENDING_WANTED
} tp__pending_state;

/* May home, which has the flush owner's role, use `pending`? Acquire: see above. Home's alone. */
static inline bool tp__pending_is_owned(const tp__session *session) {
    return TP_LIKELY(
        atomic_load_explicit(&session->pending_state, memory_order_acquire) == TP__PENDING_OWNED);
}

/* The flush owner's send is done. True: `pending` is its own again. False: it has nothing more to
 * do with the session, and its hold has gone to the one who passes the flush on. */
bool tp__pending_own_again(tp__session *session);

/* The same while the send goes on, to take it back. False: a pusher is at work. Home's alone. */
bool tp__pending_own_if_open(tp__session *session);

static inline bool tp__pending_own(tp__session *session) {
    return tp__pending_is_owned(session) || tp__pending_own_again(session);
}

/* Something was pushed, and there is a flush owner: if its send waits, moves what is queued into
 * runs. The caller holds the session, or is its home. Any thread. */
void tp__compact_slowly(tp__session *session);

static inline void tp__compact(tp__session *session) {
    if (TP_UNLIKELY(atomic_load_explicit(&session->pending_state, memory_order_seq_cst) !=
                    TP__PENDING_OWNED)) {
        tp__compact_slowly(session);
    }
}

/*
 * The session's send waits, or is about to be with the system: what it and `pending` hold becomes
 * copies where that saves memory, and `pending` is open. The flush owner's. The flight's buffers
 * must be the caller's to change; tp_socket_send_waits() says when they are.
 */
void tp__compact_waiting(tp__session *session);

#endif
