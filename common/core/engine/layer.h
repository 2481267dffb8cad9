/*
 * A layer between a session's socket and its frames. The WAN has one, for its handshake and its
 * records.
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

#include "twinport/server.h"

struct tp__session;
struct tp__worker;
struct tp__send_batch;

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
    void (*begin)(struct tp__session *session, struct tp__worker *worker);

    /* Takes bytes from the network, and passes the frames in them to tp__session_take_frames(). */
    void (*take)(
        struct tp__session *session, struct tp__worker *worker, const uint8_t *bytes, size_t count);

    /* Called for each whole frame: true to deliver it. False: the frame is dropped, and the layer
     * ends the session. */
    bool (*permit)(struct tp__session *session, struct tp__worker *worker);

    /* Makes a send batch from the backlog: takes packets off it (tp__session_next_packet) and fills
     * in the batch, whose numbers are zero. *end: the end node was reached, and everything before
     * it is in the batch. Returns TP_END_NONE, or why the session must end now; then
     * session->failure is the tp_err for on_error, or TP_OK. May run inside a call of the
     * application, so it must not call a handler. */
    tp_end_reason (*fill)(struct tp__session *session, struct tp__worker *worker,
        struct tp__send_batch *batch, bool *end);

    /* The session has ended; session->reason says why. Called before on_leave, so that the layer's
     * counters include a session before the application is notified of its end. Also called for a
     * session whose `begin` never ran. */
    void (*end)(struct tp__session *session);

    /* The slot is about to be free: frees whatever the layer has for it. Also called for a session
     * whose `begin` never ran. */
    void (*release)(struct tp__session *session, struct tp__worker *worker);

    /* The server is being freed; no session is left. */
    void (*destroy)(void *context);
} tp__layer;

/* As tp_server_create(). If it succeeds, the server owns the layer, its context included. */
tp_err tp__server_create_layered(const tp_server_options *options, const tp_handlers *handlers,
    const tp__layer *layer, tp_server **server);

/* The server's layer if its `begin` is this function, which identifies the kind of layer; otherwise
 * NULL. */
const tp__layer *tp__server_layer(
    const tp_server *server, void (*begin)(struct tp__session *session, struct tp__worker *worker));

#endif
