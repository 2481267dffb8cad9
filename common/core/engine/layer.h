/*
 * A layer between a session's socket and its frames: what the WAN puts there, handshakes and
 * records.
 *
 * The core knows nothing of it but this table. A server without one (the LAN's) has a table of
 * zeros, and asks for it once per delivery, once per frame and once per flush: branches that are
 * never taken.
 *
 * With a layer a connection is PENDING first: a session in OPENING, attached and receiving, which
 * content cannot reach and which has none of the max_sessions places. It joins when the layer says
 * so (tp__session_join), or ends without content having heard of it: no on_join, no on_leave, no
 * line in the ledger. It has open_timeout_ms for that, or for being told that it cannot; the sweep
 * cuts it then. A stop cuts those that are not being told at once.
 *
 *     accept --admit--> slot --begin--> pending --tp__session_join--> joined --release--> slot
 *       \_no, or no slot: dismiss          \______________________________/
 *
 * THREADS. `admit` and `dismiss` run on whatever worker accepts, several at once. `begin`, `fill`
 * and `take` run on workers that serve the session's socket: `take` one delivery at a time, `fill`
 * as the flush owner, and on iocp the two at once on two workers. `release` runs when all holds are
 * gone, after every other call. Within `take` and `begin` everything may be called that may be
 * called in a handler.
 */
#ifndef TWINPORT_CORE_ENGINE_LAYER_H
#define TWINPORT_CORE_ENGINE_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/server.h"

struct tp__session;
struct tp__worker;
struct tp__flight;

typedef struct tp__layer {
    void *context;            /* the layer's own */
    size_t state_bytes;       /* of each slot: zero at first, and left zero by release */
    unsigned extra_slots;     /* for pending connections, beside max_sessions */
    unsigned open_timeout_ms; /* from accept to joining, absolute */
    size_t fill_bytes;        /* of frames that one `fill` takes, at most */

    /* May this address connect? Asked after the access list and before on_connection_request. If it
     * may not, the layer counts it and says why. What it admitted comes back by `release` if it got
     * a slot, else by `dismiss`. */
    bool (*admit)(void *context, const tp_address *peer);
    void (*dismiss)(void *context, const tp_address *peer);

    /* The connection is there and nothing has been received. It may be closed in here. */
    void (*begin)(struct tp__session *session, struct tp__worker *worker);

    /* Bytes from the network. The frames in them go to tp__session_take_frames(). */
    void (*take)(
        struct tp__session *session, struct tp__worker *worker, const uint8_t *bytes, size_t count);

    /* A whole frame has come: may it be delivered? False: it is dropped, and the layer ends the
     * session. */
    bool (*permit)(struct tp__session *session, struct tp__worker *worker);

    /* Makes a flight out of what is pending: takes packets off the list (tp__session_next_packet),
     * and fills in the flight, whose numbers are zero. *end: the end node was reached, and all
     * before it is in the flight. TP_END_NONE, or why the session must end now: then
     * session->failure is the tp_err that on_error is to hear of, or TP_OK. It may run inside a
     * call of content's: it calls no handler. */
    tp_end_reason (*fill)(struct tp__session *session, struct tp__worker *worker,
        struct tp__flight *flight, bool *end);

    /* It has ended, and session->reason says why. Before content hears it, so that who has heard it
     * finds it in the layer's counters too. Also for one that never began. */
    void (*end)(struct tp__session *session);

    /* The slot is about to be free: whatever the layer has for it goes. Also for one that never
     * began. */
    void (*release)(struct tp__session *session, struct tp__worker *worker);

    /* The server is being freed; no session is left. */
    void (*destroy)(void *context);
} tp__layer;

/* As tp_server_create(); the server takes the layer over, its context included, if it succeeds. */
tp_err tp__server_create_layered(const tp_server_options *options, const tp_handlers *handlers,
    const tp__layer *layer, tp_server **server);

/* The layer of a server that has this `begin`, so is of that kind; else NULL. */
const tp__layer *tp__server_layer(
    const tp_server *server, void (*begin)(struct tp__session *session, struct tp__worker *worker));

#endif
