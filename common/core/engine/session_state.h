/*
 * A session: one connection's slot in its server's table.
 *
 * Which thread may touch which field:
 *
 *     life              any thread, atomically (life.h)
 *     queue             any thread, atomically (send_queue.h)
 *     pending,          the thread that pending_state names (compact.h): as a rule the flush owner
 *       end_taken
 *     flight,           the flush owner; there is at most one, and it holds one count
 *       sending_end, blocked_ms, failure, owed
 *     receive           the delivery of the receive op; one runs at a time
 *     numbers           one writer each (the receiver or the flush owner); any thread reads them
 *     reason,           the thread that won begin_finishing or begin_closing; read at the release,
 *       os_error        which comes after all holds
 *     the rest          the thread that opens the slot, before any other knows the session; the
 *                       thread that releases it, after all others
 *
 * The ops, one use at a time each:
 *
 *     receive_op        the outgoing connect, then the join posted to a worker that serves the
 *                       socket, then the receive
 *     send_op           the flush posted to such a worker, then the send: the flush owner's
 *     close_op          the close; after its completion, when no hold is left, the deferred release
 *
 * The socket's hold lasts until the completion of the close, which the port delivers last: so the
 * connect, the receive and the send need no holds of their own. Posts are not the socket's: a
 * posted join and the flush owner hold one each.
 */
#ifndef TWINPORT_CORE_ENGINE_SESSION_STATE_H
#define TWINPORT_CORE_ENGINE_SESSION_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/engine/life.h"
#include "core/engine/queue_size.h"
#include "core/engine/send_queue.h"
#include "os/port.h"
#include "twinport/server.h"

struct tp__worker;
struct tp__flight;

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
        uint32_t partial_filled; /* with `partial`: its payload bytes that are there */
        uint8_t header[4];       /* without: bytes of the next header */
    };
    union {
        uint8_t partial_type;  /* with `partial` */
        uint8_t header_filled; /* without: how many bytes of the header are there, 0..3 */
    };
    _Atomic bool ended;  /* the peer has sent its last byte; any thread reads it */
    uint16_t close_code; /* of the peer's CLOSE */
} tp__receive_state;

typedef struct tp__session {
    /* These two outlive the session: late callers of earlier lives look at them. */
    tp__life life;
    /* Set while the session's worker for life, where the port gives it one, may use the session
     * without a hold: from the join to the release, both of which run on that worker. NULL on other
     * ports. */
    _Atomic(struct tp__worker *) home;

    tp_server *server;

    /* sending */
    tp__send_queue queue;
    tp__queue_size queued;       /* in the queue, pending or in flight */
    tp__send_node *pending;      /* taken from the queue, oldest first; end_node is its last */
    tp__send_node *pending_last; /* valid while pending is not NULL */
    tp__send_node *compact_last; /* pending up to here has been looked at by compact.c, or NULL */
    struct tp__flight *flight;   /* being sent now, or NULL */
    struct tp__session *next;    /* on a worker's list of flushes; released: on the orphans' */
    /* Sent from inside a handler, and not yet reported to on_send: messages and bytes, as `queued`
     * has them. */
    uint64_t owed;
    tp__send_node end_node; /* pushed by the one who finishes the session */
    /* Since when, in served time, the flight waits for the system to take all of it; 0: it does
     * not. The flush owner's; anybody reads it. */
    _Atomic uint64_t sending_since_ms;

    tp__receive_state receive;
    tp__session_numbers numbers;
    /* The next three in served time (served.c). */
    _Atomic uint64_t heard_ms;     /* when the peer last said something */
    _Atomic uint64_t pinged_ms;    /* when it was sent PING since then; 0: it was not */
    _Atomic uint64_t finish_by_ms; /* when a finishing or connecting session is cut; 0: never */
    uint64_t joined_ms;

    tp_socket socket;
    tp_op receive_op;
    tp_op send_op;
    tp_op close_op;

    tp_address peer;
    uint32_t index; /* the slot; the other part of the id is in `life` */
    int os_error;
    /* The clock's lower half when the system last took less than all, not 0; 0: it has not since
     * the last flush. */
    uint32_t blocked_ms;
    /* Which worker has the flush owner's role while no send is in progress: its index + 1, or 0.
     * Only that worker sets and clears it, so one that reads its own number has the role. */
    _Atomic uint8_t flusher;
    uint8_t reason; /* tp_end_reason */
    bool joined;    /* on_join has been called */
    bool outgoing;
    bool turned_away;   /* the peer is to hang up; written with `reason` */
    bool owned_at_home; /* home's alone: the flush owner's role is with home */
    bool end_taken;     /* end_node is pending, or was: nothing more is. Whoever has pending */
    bool sending_end;   /* the flight carries the last there is: the flush owner's */
    uint8_t failure;    /* tp_err that the flush is to report: the flush owner's */
    _Atomic uint8_t pending_state; /* tp__pending_state */
    /* Has one of the max_sessions places; if not, it is here to be told so, is pending, or is being
     * ended. The step that sets it to false gives the place back. */
    _Atomic bool counted;
    _Atomic bool end_reached; /* everything up to end_node is with the system */
} tp__session;

/* An idle player or service costs this; docs/memory.md and docs/wan.md say how much. */
_Static_assert(sizeof(void *) != 8 || sizeof(tp__session) <= 512, "a session has grown");

/* For a thread that has a hold, and in the release. */
static inline tp_session_id tp__session_id(const tp__session *session) {
    uint64_t life = atomic_load_explicit(&session->life, memory_order_relaxed);
    return (life & TP__LIFE_NUMBER) | session->index;
}

/* ---- open.c, finish.c, end.c ----------------------------------------------------------------- */

/* Runs the op on a worker that serves the session's socket. The caller has a hold. False: the
 * system refuses. Any thread. */
bool tp__session_post(tp__session *session, tp_op *op);

/* Takes a slot and makes it a session, opening, with one hold for its socket; not `counted` if it
 * is beyond max_sessions, or is pending under a layer. NULL: no slot is left. The id is set; nobody
 * else knows it yet. */
tp__session *tp__session_open(tp_server *server, const tp_address *peer, bool outgoing);

/* Undoes an open whose socket could not be attached. */
void tp__session_abandon(tp__session *session);

/* The connection is there: joins, or is pending, on a worker that serves the socket, now if
 * `worker` does. The caller's hold of the socket remains with the session. */
void tp__session_start(tp__session *session, struct tp__worker *worker);

/* For a layer, inside `take`: the pending session takes a place and joins; without a place it is
 * told so. False: it has not joined. */
bool tp__session_join(tp__session *session, struct tp__worker *worker);

/* Gives its place among max_sessions back, once: at the beginning of the end, or at the release. */
void tp__session_give_place_back(tp__session *session);

/* Begins the end, now: cancels everything. The caller has a hold. False: it was closing already. */
bool tp__session_close(tp__session *session, tp_end_reason reason, int os_error);

/* Begins the end of a connection that has not joined, now; nothing, and false, if it has or is
 * closing. If it was finishing its own reason stands. The caller has a hold, and the socket is
 * attached. */
bool tp__session_close_unjoined(tp__session *session, tp_end_reason reason);

/* Begins the end, after what is queued: a CLOSE frame with `close_code` (none if it is negative),
 * then the end of the stream, then a wait for the peer. The caller has a hold. False: it was ending
 * already. */
bool tp__session_finish(tp__session *session, tp_end_reason reason, int close_code);

/* The same for a peer that is not wanted: the stream is not ended here. A peer that is told hangs
 * up, and so ends the connection itself; one that does not is reset when its time is over. In
 * neither case is anything left in TIME_WAIT, unless the connection is outgoing: those are closed
 * in order. */
bool tp__session_turn_away(tp__session *session, tp_end_reason reason, int close_code);

/* Gives the caller's hold back; the release, if it was the last, is left to a worker. Any
 * thread. */
void tp__session_leave(tp__session *session);

/* The same, releasing on the spot: for the top level of a completion, on a worker's thread. */
void tp__session_drop(tp__session *session, struct tp__worker *worker);

/* Has a worker release the session, its home if it has one: only for who brought the count to 0, or
 * took it from the orphans. Any thread. */
void tp__session_release_later(tp__session *session);

/* The session with this id, held by the caller, if none of the `barred` life flags is set; or
 * NULL. */
tp__session *tp__session_enter(tp_server *server, tp_session_id id, uint64_t barred);

/* Is content still to hear of what comes in? Not after the end has begun. */
static inline bool tp__session_listens(const tp__session *session) {
    return !(tp__life_read(&session->life) & TP__LIFE_ENDING);
}

/* ---- receive.c ------------------------------------------------------------------------------- */

void tp__session_receive(tp__session *session, struct tp__worker *worker);

/* ---- frames.c -------------------------------------------------------------------------------- */

/* Delivers the frames in these bytes, which go on where the last ones stopped. The receiver's. */
void tp__session_take_frames(
    tp__session *session, struct tp__worker *worker, const uint8_t *bytes, size_t count);

/* Memory for what comes in is out: says so, and the session ends. */
void tp__session_out_of_memory(tp__session *session, struct tp__worker *worker);

/* ---- send.c: into the queue ------------------------------------------------------------------ */

/* What became of a packet that was to be queued. */
typedef enum tp__queued { TP__QUEUED, TP__QUEUE_DROPPED, TP__QUEUE_REFUSED } tp__queued;

/* Queues a packet (a reference is taken), sealed unless it is one that a layer's `fill` knows.
 * Consumes the caller's hold in every case. */
tp__queued tp__session_queue(tp__session *session, tp_packet *packet);

/* Queues a control frame of the server's own (PING, PONG), within the same limits. Consumes
 * nothing. */
void tp__session_control(
    tp__session *session, uint8_t frame_type, const void *payload, size_t size);

/* Queues the packet without a hold: for the session's home alone. */
tp__queued tp__session_queue_at_home(
    tp__session *session, struct tp__worker *home, tp_packet *packet);

/* ---- pending_list.c, handover.c, send_now.c, send_batch.c, flush.c: to the socket ------------ */

/* More waits than one send takes: if the flush owner's role is with this worker, it sends what the
 * system takes, now, without waiting for the end of the batch. The worker's own thread. */
void tp__session_send_now(tp__session *session, struct tp__worker *worker);

/* The queue is full: the same, also if less waits, and if a send is in progress, that is gone on
 * with. True: something went out. */
bool tp__session_make_room(tp__session *session, struct tp__worker *worker);

/* Is the worker, whose thread this is, the session's home? */
static inline bool tp__session_is_at_home(
    const tp__session *session, const struct tp__worker *worker) {
    return worker && atomic_load_explicit(&session->home, memory_order_relaxed) == worker;
}

/* The worker has the flush owner's role and flushes the session when its batch is done. */
void tp__session_await_flush(tp__session *session, struct tp__worker *worker);

/* pending_list.c: moves what was pushed behind what is pending, for who has that; the same, and
 * then the node behind it. */
void tp__session_collect(tp__session *session);
void tp__session_pend(tp__session *session, tp__send_node *node);

/* The caller has just become the flush owner and passes a hold on: has a serving worker flush. */
void tp__session_flush(tp__session *session);

/* Flushes everything on the worker's list, at the end of each batch of completions and whenever so
 * many bytes have been received since. */
#define TP__FLUSH_BYTES ((size_t)64 * 1024)
void tp__worker_flush(struct tp__worker *worker);

/* Takes the oldest pending node off the list: its packet, whose reference is the caller's, or NULL
 * if it has none. *end: it was the session's end node, behind which there is nothing. The flush
 * owner's, and `pending` is not NULL. */
tp_packet *tp__session_next_packet(tp__session *session, bool *end);

/* Frees what was queued and never sent; counts it. Release only. */
void tp__session_discard(tp__session *session, uint64_t *packets, uint64_t *bytes);

#endif
