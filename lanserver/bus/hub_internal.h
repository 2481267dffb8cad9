/*
 * Internals of the hub, shared by its files.
 *
 * A SESSION is a connection; a PEER is a session whose HELLO was accepted. Peers are looked up by
 * id for every message and change only when a peer joins or leaves, so the table is read without a
 * lock:
 *
 *     slots[id & mask]   points to a peer, or is NULL
 *
 * A peer's memory is reused for later peers and not freed before the hub is destroyed. So a pointer
 * that was read from the table may be locked at any time; its id, read under its mutex, tells
 * whether it is still the same peer.
 *
 * LOCKS, always taken in this order, at most one of each at a time:
 *
 *     directory     guards the list of peers: slots (writes), `up`, the members of services
 *                   (writes), spare peers, ids. Held while a peer joins or leaves and during an
 *                   ALL; never on the path of a SEND, ANY, REQUEST, REPLY or ERROR.
 *     peer->mutex   held for the few instructions in which a message is appended to the peer's
 *                   unacknowledged messages and to its session's send queue. The two are one step:
 *                   acknowledgements are counts, so both must have the same order. Senders to
 *                   different peers share no lock; nothing under it blocks.
 *
 * No handler runs under a lock, and no call of the server calls a handler, so locks nest no
 * further.
 *
 * For one session on_join, on_recv and on_leave run one after another. Fields marked "session"
 * below are accessed only by them.
 */
#ifndef TWINPORT_LANSERVER_BUS_HUB_INTERNAL_H
#define TWINPORT_LANSERVER_BUS_HUB_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bus/unacked.h"
#include "core/base/counter.h"
#include "core/base/lifecycle.h"
#include "core/base/stats_list.h"
#include "lanserver/bus/connections.h"
#include "lanserver/bus/hub.h"
#include "lanserver/bus/services.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/log.h"

typedef struct tp__peer {
    tp_mutex mutex;
    uint32_t id;                 /* mutex; 0: not on the bus */
    uint32_t max_payload;        /* mutex: the largest message it accepts, bus header included */
    tp_session_id session;       /* mutex or directory */
    tp__unconfirmed unconfirmed; /* mutex; tp__unconfirmed_confirm(): session */
    /* The value of `processed` that was last sent to it, in any message. Written under mutex. */
    _Atomic uint32_t acknowledged;
    /* How many of its messages the hub has processed. Written by the session; under mutex if a
     * message of the hub to this peer carries the new count. */
    _Atomic uint32_t processed;
    _Atomic uint64_t accepted; /* written by the session: accepted messages, each copy of an ALL */

    uint32_t public_id;          /* directory: id, kept until PEER_DOWN has been sent */
    uint32_t processed_at_sweep; /* sweep: `processed` at the previous round */
    uint32_t up_index;           /* directory: up[up_index] is this peer */
    uint32_t instance_size;
    tp__service *service;  /* directory */
    struct tp__peer *next; /* directory: in the list of spare peers */
    char instance[TP_BUS_NAME_MAX + 1];
} tp__peer;

struct tp__hub {
    tp__hub_options options;
    tp_server *server;
    uint64_t instance;

    tp_mutex directory;
    _Atomic(tp__peer *) *slots;
    uint32_t mask;
    uint32_t next_id;  /* directory */
    uint32_t ids_left; /* directory: ids left before one would be assigned twice */
    tp__peer **up;     /* directory: the peers on the bus, up_count of them; capacity mask + 1 */
    uint32_t up_count;
    tp__peer *spare;
    tp__services services;

    tp__hub_connections connections; /* all sessions, with their peers */

    _Atomic bool sweep_armed;
    tp_mutex lifecycle_mutex; /* taken by no handler */
    tp__lifecycle lifecycle;  /* lifecycle_mutex; its last step is the server's stop */

    /* Totals of the peers that have left; directory. */
    uint64_t left_accepted;
    uint64_t left_delivered;

#define TP__HUB_COUNT(name, text)          _Atomic uint64_t name;
#define TP__HUB_REASONS(name, parts, text) _Atomic uint64_t name[TP_BUS_REASON_END];
    TP__HUB_STATS(TP__STATS_NONE, TP__STATS_NONE, TP__HUB_COUNT, TP__HUB_REASONS)
#undef TP__HUB_COUNT
#undef TP__HUB_REASONS
};

/* ---- peers.c --------------------------------------------------------------------------------- */

tp_err tp__peers_create(tp__hub *hub, uint32_t max_peers);
void tp__peers_destroy(tp__hub *hub);

/* A peer with a new id in public_id, not in the table yet. NULL: no memory, or no ids left. Under
 * the directory lock. */
tp__peer *tp__peers_open(tp__hub *hub, tp_session_id session);

/* Puts the peer into the table: messages reach it from here on. Under the directory lock. */
void tp__peers_publish(tp__hub *hub, tp__peer *peer);

/* Takes the peer out of the table: messages do not reach it any more. Under the directory lock. */
void tp__peers_withdraw(tp__hub *hub, tp__peer *peer);

/* Makes the peer's memory available for later peers. Under the directory lock. */
void tp__peers_close(tp__hub *hub, tp__peer *peer);

/*
 * Sends a message to peer `id`: appends `entry` to its unacknowledged messages, completes the
 * header and queues the packet, as one step. Takes the peer's mutex.
 *
 * `entry` NULL: a message of the hub's own, which is not acknowledged. `also_processed` (0 or 1):
 * how many of this peer's own messages this message itself reports as processed; 1 only from the
 * session's handler.
 *
 * TP_BUS_DELIVERED, or the reason why not. On failure nothing has changed, and the packet may be
 * offered to another peer.
 */
tp_bus_reason tp__peer_deliver(tp__hub *hub, uint32_t id, const tp__sent *entry,
    const tp_bus_header *header, tp_packet *packet, uint32_t also_processed);

/* The same for a packet with many receivers, whose header is complete already; it carries no
 * acknowledgement. NO_SERVICE: the peer is not on the bus any more. */
tp_bus_reason tp__peer_deliver_shared(
    tp__hub *hub, tp__peer *peer, const tp__sent *entry, tp_packet *packet);

/* ---- registration.c -------------------------------------------------------------------------- */

/* Handles the first message of a session. Returns the new peer; or NULL: the HELLO was refused, or
 * the message is a protocol error, and the session is being ended. Takes the directory lock. */
tp__peer *tp__hub_register(
    tp__hub *hub, tp_session_id session, const tp_bus_header *header, tp_packet *packet);

/* The session of `peer` has ended: its unacknowledged messages bounce, and the other peers get
 * PEER_DOWN, unless the hub stops. Takes the directory lock. */
void tp__hub_unregister(tp__hub *hub, tp__peer *peer, tp_end_reason reason);

/* ---- route.c --------------------------------------------------------------------------------- */

/* Forwards, answers or bounces a message of `from`. Returns how many accepted messages it counts
 * as: the number of copies of an ALL, 0 for a request that the hub has answered itself, otherwise
 * 1. */
uint32_t tp__route(tp__hub *hub, tp__peer *from, const tp_bus_header *header, tp_packet *packet);

/* ---- bounces.c ------------------------------------------------------------------------------- */

/* Returns a message to its sender as ERROR, and counts it. `peer`: the peer it did not reach, or 0.
 * `also_processed`: as for tp__peer_deliver(). */
void tp__bounce(tp__hub *hub, const tp__sent *message, uint32_t peer, tp_bus_reason reason,
    uint32_t also_processed);

/* ---- acks.c ---------------------------------------------------------------------------------- */

/* Posts the first sweep, at start; `sweep_armed` was set before. TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__acks_start(tp__hub *hub);

/* The hub has processed the peer's message number `processed`: sees to it that the peer gets an
 * acknowledgement in time, unless it has had one already. Session. */
void tp__acks_later(tp__hub *hub, tp__peer *peer, uint32_t processed);

/* ---- hub_check.c ----------------------------------------------------------------------------- */

/* The first invariant of the directory that does not hold, or NULL. Under the directory lock, or
 * when no other thread uses the hub; takes each peer's mutex. Looks at every peer and service. */
const char *tp__hub_check(tp__hub *hub);

/* ---- hub.c ----------------------------------------------------------------------------------- */

/* The session's remote address; all zero if the session has ended. */
tp_address tp__hub_address_of(tp__hub *hub, tp_session_id session);

/* Logs a protocol error, rate-limited by the caller's call site, and ends the session. */
void tp__hub_protocol_error(
    tp__hub *hub, tp_session_id session, tp_log_site *site, const char *what);

#define TP__HUB_PROTOCOL_ERROR(hub, session, what)                                                 \
    do {                                                                                           \
        static tp_log_site tp__error_site;                                                         \
        tp__hub_protocol_error((hub), (session), &tp__error_site, (what));                         \
    } while (0)

#endif
