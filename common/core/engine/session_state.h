/*
 * A session: one connection, in its slot of the server's table.
 *
 * Which thread may use which field:
 *
 *     life                any thread, atomically (life.h)
 *     queue               any thread, atomically (send_queue.h)
 *     queued              any thread, atomically (queue_size.h)
 *     backlog,            the thread that backlog_state names (compact.h): usually the flusher
 *       backlog_last,
 *       compact_last,
 *       end_taken
 *     send_batch,         the flusher; there is at most one, and it has one reference
 *       sending_end,
 *       blocked_ms,
 *       failure, owed
 *     owner_flushes       the owner worker
 *     receive             the delivery of the receive op; one runs at a time
 *     numbers             one writer each (the receiver or the flusher); any thread reads them
 *     reason, os_error,   the winner of tp__life_begin_finishing() or tp__life_begin_closing();
 *       turned_away         read in the release, when all references are gone, and by the
 *                           flusher at the end node
 *     other atomics       see their comments
 *     the rest            the thread that opens, starts or releases the session, before any other
 *                         thread knows it or after all others are done
 *
 * The ops, each with one use at a time:
 *
 *     receive_op          the outgoing connect; then the start, posted to a worker that serves the
 *                         socket; then the receive
 *     send_op             the flush, posted to such a worker; then the send. The flusher's
 *     close_op            the close; after its completion, when no reference is left, the posted
 *                         release
 *
 * The socket's reference lasts until the completion of the close, which the port delivers last. So
 * the connect, the receive and the send need no references of their own. Posts do not belong to the
 * socket: a posted start and the flusher have one reference each.
 */
#ifndef TWINPORT_CORE_ENGINE_SESSION_STATE_H
#define TWINPORT_CORE_ENGINE_SESSION_STATE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/engine/life.h"
#include "core/engine/queue_size.h"
#include "core/engine/references.h"
#include "core/engine/send_queue.h"
#include "core/engine/session_calls.h"
#include "os/port.h"
#include "twinport/server.h"

struct tp__worker;
struct tp__send_batch;

/* Relaxed numbers with a single writer each. */
typedef struct tp__session_numbers {
    _Atomic uint64_t received_messages;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_messages;
    _Atomic uint64_t sent_bytes;
} tp__session_numbers;

/* What the receiver keeps between two deliveries: a part of a frame, or of the next header. */
typedef struct tp__receive_state {
    tp_packet *partial; /* a frame whose header is known and allowed, still arriving; or NULL */
    union {
        uint32_t partial_filled; /* with `partial`: payload bytes that have arrived */
        uint8_t header[4];       /* without: bytes of the next header */
    };
    union {
        uint8_t partial_type;  /* with `partial` */
        uint8_t header_filled; /* without: how many bytes of the header have arrived, 0..3 */
    };
    _Atomic bool ended;  /* the peer has ended its stream; any thread reads it */
    uint16_t close_code; /* of the peer's CLOSE */
} tp__receive_state;

typedef struct tp__session {
    /* These two outlive the session: late callers of earlier lives read them. */
    tp__life life;
    /* Where the port binds sockets to workers: the worker that serves this one, which may use the
     * session without a reference. Set from the start to the release, both of which run on that
     * worker. NULL on other ports. */
    _Atomic(struct tp__worker *) owner;

    tp_server *server;

    /* sending */
    tp__send_queue queue;
    tp__queue_size queued;       /* in the queue, in the backlog or in the send batch */
    tp__send_node *backlog;      /* taken from the queue, oldest first; end_node is its last */
    tp__send_node *backlog_last; /* valid while the backlog is not NULL */
    tp__send_node *compact_last; /* compact.c has looked at the backlog up to here; or NULL */
    struct tp__send_batch *send_batch; /* being sent now, or NULL */
    struct tp__session *next;          /* on a worker's flush list, or the orphans' list */
    /* Sent, and not yet reported to on_send: messages and bytes, in the form of `queued`. */
    uint64_t owed;
    tp__send_node end_node; /* pushed by the thread that finishes the session */
    /* Since when, in served time, the send batch waits for the system to take all of it; 0: it does
     * not. The flusher writes it, any thread reads it. */
    _Atomic uint64_t sending_since_ms;

    tp__receive_state receive;
    tp__session_numbers numbers;
    /* The next three in served time (served.c). */
    _Atomic uint64_t heard_ms;     /* when bytes last arrived */
    _Atomic uint64_t pinged_ms;    /* when PING was sent since then; 0: it was not */
    _Atomic uint64_t finish_by_ms; /* when a finishing or unjoined session is cut; 0: never */
    uint64_t joined_ms;

    tp_socket socket;
    tp_op receive_op;
    tp_op send_op;
    tp_op close_op;

    tp_address peer;
    uint32_t index; /* the slot; the other part of the id is in `life` */
    int os_error;
    /* The lower half of the clock when the system last took less than all, never 0; 0: it took all
     * since the last flush. */
    uint32_t blocked_ms;
    /* The worker that is the flusher while no send is in progress: its index + 1, or 0. Only that
     * worker sets and clears it, so a worker that reads its own number is the flusher. */
    _Atomic uint8_t flusher;
    uint8_t reason; /* tp_end_reason */
    bool joined;    /* on_join has been called, or is about to be */
    bool outgoing;
    bool turned_away;              /* the peer is to end the stream first; written with `reason` */
    bool owner_flushes;            /* the owner is the flusher */
    bool end_taken;                /* end_node is or was in the backlog, which takes nothing more */
    bool sending_end;              /* the send batch ends with end_node */
    uint8_t failure;               /* tp_err that the next flush passes to on_error */
    _Atomic uint8_t backlog_state; /* tp__backlog_state */
    /* Has a quota of max_sessions. A session without one is being turned away, is pending, or is
     * being ended. The step that sets it to false returns the quota. */
    _Atomic bool has_quota;
    _Atomic bool end_reached; /* everything up to end_node is with the system */
#ifndef NDEBUG
    tp__references references;
#endif
} tp__session;

/* Every idle player and service costs this much; docs/memory.md and docs/wan.md give the number. */
#ifdef NDEBUG
_Static_assert(sizeof(void *) != 8 || sizeof(tp__session) <= 512, "a session has grown");
#endif

/* For a thread that has a reference, for the owner, and in the release. */
static inline tp_session_id tp__session_id(const tp__session *session) {
    uint64_t life = atomic_load_explicit(&session->life, memory_order_relaxed);
    assert(session->index < TP_MAX_SESSIONS && (life & TP__LIFE_NUMBER) != 0);
    return (life & TP__LIFE_NUMBER) | session->index;
}

/* ---- references ------------------------------------------------------------------------------ */

/* Counts a reference that has been taken, and one that is about to be given back, by kind. */
static inline void tp__session_count_reference(tp__session *session, tp__reference kind) {
#ifndef NDEBUG
    tp__references_add(&session->references, kind);
#endif
    (void)session, (void)kind;
}

static inline void tp__session_uncount_reference(tp__session *session, tp__reference kind) {
#ifndef NDEBUG
    tp__references_subtract(&session->references, kind);
#endif
    (void)session, (void)kind;
}

/* ---- open.c, finish.c, end.c ----------------------------------------------------------------- */

/* Runs the op on a worker that serves the session's socket. The caller has a reference. False: the
 * system refuses. Any thread. */
bool tp__session_post(tp__session *session, tp_op *op);

/* Takes a slot and opens a session in it, with one reference, for its socket. It has no quota if
 * max_sessions is reached, or if it is pending under a layer. NULL: no slot is left. The id is set,
 * and no other thread knows it yet. */
tp__session *tp__session_open(tp_server *server, const tp_address *peer, bool outgoing);

/* Undoes an open whose socket could not be attached. */
void tp__session_abandon(tp__session *session);

/* The connection is established: joins, or becomes pending, on a worker that serves the socket; at
 * once if `worker` does. The socket's reference stays with the session. */
void tp__session_start(tp__session *session, struct tp__worker *worker);

/* Returns the session's quota, once: when its end begins, or at the release. */
void tp__session_return_quota(tp__session *session);

/* Takes a further reference, of this kind. The caller has one, or is the owner. */
static inline void tp__session_retain(tp__session *session, tp__reference kind) {
    tp__life_retain(&session->life);
    tp__session_count_reference(session, kind);
}

/* The caller's reference of kind `from` becomes one of kind `to`. */
static inline void tp__session_pass_reference(
    tp__session *session, tp__reference from, tp__reference to) {
    tp__session_uncount_reference(session, from);
    tp__session_count_reference(session, to);
}

/* Has a worker release the session, its owner if it has one. Only for the thread that set RELEASED,
 * or took the session from the orphans. Any thread. */
void tp__session_release_later(tp__session *session);

/* The session with this id, with a reference of kind CALL for the caller, if none of the `barred`
 * life flags is set; otherwise NULL. */
tp__session *tp__session_enter(tp_server *server, tp_session_id id, uint64_t barred);

/* Is input still delivered? Not after the end has begun. */
static inline bool tp__session_takes_input(const tp__session *session) {
    return !(tp__life_read(&session->life) & TP__LIFE_ENDING);
}

/* ---- session_check.c ------------------------------------------------------------------------- */

/* The invariants of what the flusher may look at while it has the backlog: the batch, the first
 * `most` nodes of the backlog, and that `queued` is not below them. Each check returns the first
 * condition that is false, or NULL. */
const char *tp__session_check(const tp__session *session, size_t most);

/* The invariants of a session without references: the same of the whole backlog, the queue, and
 * that `queued` is exactly what is left. The thread that releases the session, before it discards
 * that. */
const char *tp__session_release_check(const tp__session *session);

/* The invariants of the receive state. The receiver only. */
const char *tp__receive_check(const tp__session *session);

/* ---- receive.c ------------------------------------------------------------------------------- */

void tp__session_receive(tp__session *session, struct tp__worker *worker);

/* ---- frames.c -------------------------------------------------------------------------------- */

/* Delivers the frames in these bytes, which continue where the last ones stopped. The receiver
 * only. */
void tp__session_take_frames(
    tp__session *session, struct tp__worker *worker, const uint8_t *bytes, size_t count);

/* ---- send.c: into the queue ------------------------------------------------------------------ */

/* What became of a packet that was to be queued. */
typedef enum tp__queued { TP__QUEUED, TP__QUEUE_DROPPED, TP__QUEUE_REFUSED } tp__queued;

/* Queues a packet: sealed, or one that the layer's `fill` knows. The queue takes its own reference
 * to the packet. The caller's reference to the session, of kind CALL, is consumed in every case. */
tp__queued tp__session_queue(tp__session *session, tp_packet *packet);

/* Queues a control frame of the server (PING, PONG), within the same limits. The caller keeps its
 * reference to the session. */
void tp__session_control(
    tp__session *session, uint8_t frame_type, const void *payload, size_t size);

/* Queues the packet without a reference to the session: the owner only. */
tp__queued tp__session_queue_by_owner(
    tp__session *session, struct tp__worker *owner, tp_packet *packet);

/* ---- backlog.c, handover.c, send_now.c, send_batch.c, flush.c: to the socket ----------------- */

/* Called when more is queued than one send takes: if this worker is the flusher, sends what the
 * system takes now, without waiting for the end of the batch. On the worker's own thread. */
void tp__session_send_now(tp__session *session, struct tp__worker *worker);

/* Called when the queue is full: does the same, even if less is queued, and takes a send in
 * progress back and continues it where the port can. True: something was sent. */
bool tp__session_send_for_space(tp__session *session, struct tp__worker *worker);

/* Is the worker the session's owner? On the worker's own thread. */
static inline bool tp__session_is_owner(
    const tp__session *session, const struct tp__worker *worker) {
    return worker && atomic_load_explicit(&session->owner, memory_order_relaxed) == worker;
}

/* Makes the worker the flusher; it flushes the session when its batch is done. On its own
 * thread. */
void tp__session_await_flush(tp__session *session, struct tp__worker *worker);

/* backlog.c, for the thread that has the backlog. The first moves everything pushed to the end of
 * the backlog; the second does the same, and then appends the node. */
void tp__session_collect(tp__session *session);
void tp__session_append_backlog(tp__session *session, tp__send_node *node);

/* The caller has just become the flusher, and passes a reference of kind FLUSH on: has a worker
 * that serves the socket flush. */
void tp__session_flush(tp__session *session);

/* Flushes all sessions on the worker's list: at the end of each batch of completions, and whenever
 * this many bytes have been received since the last time. */
#define TP__FLUSH_BYTES ((size_t)64 * 1024)
void tp__worker_flush(struct tp__worker *worker);

/* Takes the oldest node off the backlog. Returns its packet, whose reference is now the caller's,
 * or NULL if it has none. *end: it was the end node, behind which there is nothing. The flusher
 * only; the backlog is not empty. */
tp_packet *tp__session_next_packet(tp__session *session, bool *end);

/* Frees what was queued and never sent, and counts it. The release only. */
void tp__session_discard(tp__session *session, uint64_t *packets, uint64_t *bytes);

#endif
