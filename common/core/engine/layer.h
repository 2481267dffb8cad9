/*
 * A layer between a session's socket and its frames. The WAN has one, for its handshake and its
 * records. This is the only header of the engine that the WAN includes: it sees no structure of the
 * core's.
 *
 * The core knows a layer only by this table. A server without one (the LAN's) has a table of zeros
 * and tests it once per delivery, once per frame and once per flush; these branches are never
 * taken.
 *
 * With a layer a connection is PENDING at first: its session is OPENING, attached and receiving,
 * but the application cannot reach it, and it has no quota of max_sessions. It joins when the layer
 * calls tp__session_join(), or it ends without any notice to the application: no on_join, no
 * on_leave, no entry in the ledger. It has open_timeout_ms to join, or to be told that it cannot
 * join; after that the sweep closes it. A stop closes pending sessions at once, except those that
 * are being turned away.
 *
 *     accept --admit--> slot --begin--> pending --tp__session_join--> joined --release--> slot free
 *        \_without a slot: dismiss      \_____________________________________/
 *
 * THREADS. `admit` and `dismiss` run on any worker that accepts, on several at once. `begin`,
 * `take`, `permit` and `fill` run on workers that serve the session's socket: `take` for one
 * delivery at a time, `permit` inside it, `fill` on the flusher; on iocp `take` and `fill` may run
 * at the same time on two workers. `end` and `release` run when all references are gone, after all
 * other calls. `begin` and `take` may call everything that a handler may call.
 */
#ifndef TWINPORT_CORE_ENGINE_LAYER_H
#define TWINPORT_CORE_ENGINE_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/engine/session_calls.h"
#include "proto/frame.h"
#include "twinport/server.h"

struct tp_op;
struct tp_completion;

typedef struct tp__send_batch tp__send_batch;

typedef struct tp__layer {
    void *context;            /* passed to admit, dismiss and destroy */
    size_t state_bytes;       /* of each slot: zero at first, and left zero by release */
    unsigned extra_slots;     /* for pending connections, beside max_sessions */
    unsigned open_timeout_ms; /* from accept to joining, absolute */
    size_t fill_bytes;        /* the most bytes of frames that one `fill` takes */

    /* Decides whether this address may connect. Called after the access list and before
     * on_connection_request. If it returns false, the layer has counted and logged the refusal. An
     * admitted connection comes back by `release` if it got a slot, otherwise by `dismiss`. */
    bool (*admit)(void *context, const tp_address *peer);
    void (*dismiss)(void *context, const tp_address *peer);

    /* The connection is attached and nothing has been received yet. It may be closed in here. */
    void (*begin)(tp__session *session, tp__worker *worker);

    /* Takes bytes from the network, and passes the frames in them to tp__layer_take_frames(). */
    void (*take)(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count);

    /* Called for each whole frame: true to deliver it. False: the frame is dropped, and the layer
     * ends the session. `delivery` is what `take` has passed to tp__layer_take_frames(): this is
     * the only call of a layer for each frame, and it needs to ask the core nothing. */
    bool (*permit)(void *delivery);

    /* Makes a send batch from the backlog, by the calls under "filling" below. The batch is empty.
     * Returns TP_END_NONE, or why the session must end now; then *error is the tp_err for on_error,
     * or stays TP_OK. May run inside a call of the application, so it must not call a handler. */
    tp_end_reason (*fill)(
        tp__session *session, tp__worker *worker, tp__send_batch *batch, tp_err *error);

    /* The session has ended; tp__layer_reason() says why. Called before on_leave, so that the
     * layer's counters include a session before the application is notified of its end. Also called
     * for a session whose `begin` never ran. */
    void (*end)(tp__session *session);

    /* The slot is about to be free: frees whatever the layer has for it. Also called for a session
     * whose `begin` never ran. */
    void (*release)(tp__session *session, tp__worker *worker);

    /* The server is being freed; no session is left. */
    void (*destroy)(void *context);
} tp__layer;

/* As tp_server_create(). If it succeeds, the server owns the layer, its context included. */
tp_err tp__server_create_layered(const tp_server_options *options, const tp_handlers *handlers,
    const tp__layer *layer, tp_server **server);

/* The server's layer if its `begin` is this function, which identifies the kind of layer; otherwise
 * NULL. */
const tp__layer *tp__server_layer(
    const tp_server *server, void (*begin)(tp__session *session, tp__worker *worker));

/* ---- a session: layer_view.c ----------------------------------------------------------------- */

/* These change nothing and cannot fail. In any call of the layer, and on any thread that has a
 * reference to the session. */

/* The layer's context, and its own state of the session. The memory of both lives as long as the
 * server; once the slot is free, the state in it belongs to the next session. */
void *tp__layer_context(const tp__session *session);
void *tp__layer_state(const tp__session *session);

tp_server *tp__layer_server(const tp__session *session);
tp_session_id tp__layer_id(const tp__session *session);
uint32_t tp__layer_slot(const tp__session *session); /* as tp_session_slot() of the id */
const tp_address *tp__layer_peer(const tp__session *session);

/* Is what the session receives still delivered? Not once its end has begun. Is the session closing?
 * Then nothing more is sent either. */
bool tp__layer_takes_input(const tp__session *session);
bool tp__layer_is_closing(const tp__session *session);

/* Does one worker serve both sessions, as far as is known? Also true where any worker serves any
 * session (iocp). */
bool tp__layer_is_same_worker(const tp__session *one, const tp__session *other);

/* In `end` and `release` only: why the session has ended, and whether it had joined. */
tp_end_reason tp__layer_reason(const tp__session *session);
bool tp__layer_has_joined(const tp__session *session);

/* ---- a worker: layer_view.c ------------------------------------------------------------------ */

/* The worker's clock, read once per batch, and how long the worker has stalled recently. Both stay
 * the same until the layer's call returns or calls tp__worker_check_stall(). */
typedef struct tp__layer_times {
    uint64_t now_ms;
    uint64_t stall_ms;
} tp__layer_times;

/* On the worker's own thread. */
tp__layer_times tp__layer_worker_times(const tp__worker *worker);
unsigned tp__layer_worker_index(const tp__worker *worker); /* 0..options.workers-1 */

/* The worker on which an op has completed that tp__layer_post() has posted. */
tp__worker *tp__layer_worker(const struct tp_completion *completion);

/* ---- a server: layer_view.c, walk.c ---------------------------------------------------------- */

/* Any thread, from create to destroy. The options have no 0 left that stands for a default. */
const char *tp__layer_server_name(const tp_server *server);
const tp_server_options *tp__layer_server_options(const tp_server *server);

/* The slots: those of max_sessions and the layer's extra ones. */
uint32_t tp__layer_slots(const tp_server *server);

/* The session in a slot, and the layer's state of it, whatever is in the slot; NULL if there is no
 * such slot. Any thread; but what may be done with them is only what the layer itself guards. */
tp__session *tp__layer_session_at(const tp_server *server, uint32_t slot);
void *tp__layer_state_at(const tp_server *server, uint32_t slot);

/* Calls `visit` once for each session that is open now and not closing, pending or joined, and has
 * a reference to it meanwhile. Sessions that are opened during the walk may be left out. `visit`
 * may end the session. Any thread. */
void tp__layer_each_session(tp_server *server, void (*visit)(tp__session *session));

/* ---- references, posts and packets: layer_calls.c -------------------------------------------- */

/* The session with this id, with a reference of kind CALL for the caller, to be given back by
 * tp__session_leave(). NULL: there is no such session, or it is closing. Any thread. */
tp__session *tp__layer_enter(tp_server *server, tp_session_id id);

/* A further reference, of kind LAYER. The caller has one, or is in a call of the layer. */
void tp__layer_retain(tp__session *session);

/* Runs op->done on a worker that serves the session's socket. False: the system refuses; that is
 * counted and logged, with `where`, but not passed to on_error, which runs on workers only. The
 * caller has a reference, and keeps it until `done`. Any thread. */
bool tp__layer_post(tp__session *session, struct tp_op *op, const char *where);

/* Queues a packet that is not a frame: it is left unsealed, and `fill` finds it as TP__LAYER_RAW.
 * False: the session takes nothing more, or memory is out. The queue takes its own reference to the
 * packet. On a worker that serves the session. */
bool tp__layer_send_raw(tp__session *session, tp_packet *packet);

/* Packets of exactly `size` bytes, to be written through tp_packet_edit(). The first is for what is
 * sent or released soon: it is cut from the thread's chunk if it has at most TP__LAYER_PACKET_MAX
 * bytes. The second has memory of its own, for what waits for more bytes. NULL: memory is out. Any
 * thread. */
#define TP__LAYER_PACKET_MAX ((size_t)16 << 10)
tp_packet *tp__layer_packet(size_t size);
tp_packet *tp__layer_packet_kept(size_t size);

/* ---- receiving, inside `take`: frames.c ------------------------------------------------------ */

/* Delivers the frames in these bytes, which continue where the last ones stopped, and calls
 * permit(delivery) for each. Errors of the peer end the session. */
void tp__layer_take_frames(
    tp__session *session, tp__worker *worker, void *delivery, const uint8_t *bytes, size_t count);

/* Takes a frame's header for the layer itself, between two frames only. Returns how many of the
 * bytes belong to it; it may come in pieces, over several calls. *whole: it is complete, *header is
 * what it says, and the next bytes begin another frame. */
size_t tp__layer_take_header(
    tp__session *session, const uint8_t *bytes, size_t count, bool *whole, tp_frame_header *header);

/* ---- filling, inside `fill`: layer_batch.c --------------------------------------------------- */

/* What is next in the backlog. */
typedef enum tp__layer_next {
    TP__LAYER_EMPTY,  /* nothing more, for now or for ever */
    TP__LAYER_FRAMES, /* bytes of frames */
    TP__LAYER_RAW,    /* a packet of tp__layer_send_raw() */
    TP__LAYER_END     /* the session's end, without a CLOSE frame */
} tp__layer_next;

/* FRAMES: *size is how many bytes of frames there are to copy, at most `most`, behind the first
 * `skip` bytes of the oldest frame, which have been copied before. There may be more. */
tp__layer_next tp__layer_fill_next(
    const tp__session *session, size_t skip, size_t most, size_t *size);

/* Copies these `size` bytes to `bytes`. The frames that end in them are off the backlog, and count
 * as sent with the batch. Returns the next `skip`. */
size_t tp__layer_fill_copy(
    tp__session *session, tp__send_batch *batch, size_t skip, uint8_t *bytes, size_t size);

/* Takes the end off the backlog. */
void tp__layer_fill_end(tp__session *session);

/* Moves the raw packet from the backlog to the batch; it counts as no message. */
void tp__layer_fill_raw(tp__session *session, tp__send_batch *batch);

/* Adds a packet to the batch: its payload is sent behind the others'. The caller's reference to it
 * belongs to the batch now. At most TP__LAYER_FILL_PACKETS packets are in a batch. */
#define TP__LAYER_FILL_PACKETS 64u
void tp__layer_fill_add(tp__send_batch *batch, tp_packet *packet);

#endif
