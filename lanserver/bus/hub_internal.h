/*
 * The hub's inside: what its files share.
 *
 * A SESSION is a connection; a PEER is a session that has said HELLO. Peers are looked up by id on
 * every message and change only when somebody comes or goes, so the table is read without a lock:
 *
 *     slots[id & mask]   points to a peer, or is NULL
 *
 * A peer's memory is used again for later peers and not given back before the hub is destroyed. So
 * a pointer that was read from the table may be locked at any time; under the peer's mutex its id
 * decides whether it is still the peer that was looked for.
 *
 * LOCKS, always taken in this order, at most one of each at a time:
 *
 *     directory     guards the list of peers: slots (to write), `up`, the members of services (to
 *                   write), spare peers, ids. Held while a peer comes or goes and during an ALL;
 *                   never on the way of a SEND, ANY, REQUEST, REPLY or ERROR.
 *     peer->mutex   held for the few instructions in which a message is entered among the peer's
 *                   unconfirmed ones and put into its session's send queue. The two are one step,
 *                   because confirmations are counts: both must be in the same order. Senders to
 *                   different peers never meet; nothing under it waits.
 *
 * No handler runs under a lock, and no call of the server calls a handler, so locks do not nest
 * further.
 *
 * For one session on_join, on_recv and on_leave come one after another: what is marked "the
 * session's" below is touched by them alone.
 */
#ifndef TWINPORT_LANSERVER_BUS_HUB_INTERNAL_H
#define TWINPORT_LANSERVER_BUS_HUB_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bus/unacked.h"
#include "lanserver/bus/guests.h"
#include "lanserver/bus/hub.h"
#include "lanserver/bus/services.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/log.h"

typedef struct tp__peer {
    tp_mutex mutex;
    uint32_t id;                 /* mutex; 0: it is not on the bus (any more) */
    uint32_t max_payload;        /* mutex: what it takes, bus header included */
    tp_session_id session;       /* mutex or directory */
    tp__unconfirmed unconfirmed; /* mutex; confirming is the session's */
    _Atomic uint32_t told;     /* written under mutex: the count of its messages last told to it */
    _Atomic uint32_t taken;    /* written by the session: its messages taken charge of; under mutex
                                  where one of the hub's own messages to it says so at once */
    _Atomic uint64_t accepted; /* written by the session: the same, with each copy of an ALL */

    uint32_t public_id; /* directory: id, until PEER_DOWN has been said */
    uint32_t swept;     /* the sweep's: `taken` when it last came by */
    uint32_t up_index;  /* directory: up[up_index] is this peer */
    uint32_t instance_size;
    tp__service *service;  /* directory */
    struct tp__peer *next; /* directory: among the spare ones */
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
    uint32_t ids_left; /* directory: ids that can be given before one would be given twice */
    tp__peer **up;     /* directory: those on the bus, up_count of them, mask + 1 room */
    uint32_t up_count;
    tp__peer *spare;
    tp__services services;

    tp__guests guests; /* sessions, and which peers they are */

    _Atomic bool sweep_armed;
    _Atomic bool stopping;
    uint64_t stop_by_ms; /* the bus is at rest, or not waited for; written before `stopping` is */
    uint64_t end_by_ms;  /* the server has stopped too; likewise */
    tp_mutex stop_mutex;
    tp_condition stop_changed;
    bool started;     /* stop_mutex */
    bool server_told; /* stop_mutex: tp_server_stop() has been called */

    /* What peers that have left take with them; directory. */
    uint64_t left_accepted;
    uint64_t left_delivered;

    _Atomic uint64_t returned[TP_BUS_REASON_END];
    _Atomic uint64_t orphaned;
    _Atomic uint64_t refused[TP_BUS_REASON_END]; /* HELLOs, by reason */
    _Atomic uint64_t requests;
};

/* Adds to a number that one thread at a time writes and any reads. */
#define TP__HUB_ADD(counter, amount)                                                               \
    atomic_store_explicit(&(counter),                                                              \
        atomic_load_explicit(&(counter), memory_order_relaxed) + (amount), memory_order_relaxed)

/* ---- peers.c --------------------------------------------------------------------------------- */

tp_err tp__peers_create(tp__hub *hub, uint32_t max_peers);
void tp__peers_destroy(tp__hub *hub);

/* A peer that is not in the table yet, with a new id in public_id. NULL: memory, or ids, are used
 * up. Under the directory. */
tp__peer *tp__peers_open(tp__hub *hub, tp_session_id session);

/* From here on messages reach it. Under the directory. */
void tp__peers_publish(tp__hub *hub, tp__peer *peer);

/* From here on none does. Under the directory. */
void tp__peers_withdraw(tp__hub *hub, tp__peer *peer);

/* Its memory is for others to use. Under the directory. */
void tp__peers_close(tp__hub *hub, tp__peer *peer);

/*
 * A message to a peer: enters it among the unconfirmed ones, completes the header and queues it, as
 * one step. `entry` NULL: a message of the hub's own, which is not confirmed. `takes`: how many
 * messages of this peer's own are taken charge of by that very message, 0 or 1; 1 from within the
 * session's handler alone. TP_BUS_DELIVERED, or why not: then nothing has happened, and the packet
 * may be tried with another peer.
 */
tp_bus_reason tp__peer_deliver(tp__hub *hub, uint32_t id, const tp__sent *entry,
    const tp_bus_header *header, tp_packet *packet, uint32_t takes);

/* The same for a packet whose header is complete already, since many get it; no ACK in it.
 * NO_SERVICE: the peer is not on the bus any more. */
tp_bus_reason tp__peer_deliver_shared(
    tp__hub *hub, tp__peer *peer, const tp__sent *entry, tp_packet *packet);

/* ---- greet.c --------------------------------------------------------------------------------- */

/* The first message of a session. The new peer, or NULL: it has been refused, or broke the
 * protocol. */
tp__peer *tp__greet(
    tp__hub *hub, tp_session_id session, const tp_bus_header *header, tp_packet *packet);

/* The session is over: its unconfirmed messages go back, everybody hears that it is gone. */
void tp__farewell(tp__hub *hub, tp__peer *peer, tp_end_reason reason);

/* ---- route.c --------------------------------------------------------------------------------- */

/* Takes charge of a message. Returns how many messages it counts as: an ALL's copies, 0 for a
 * request to the hub itself, else 1. */
uint32_t tp__route(tp__hub *hub, tp__peer *from, const tp_bus_header *header, tp_packet *packet);

/* ---- bounces.c ------------------------------------------------------------------------------- */

/* Gives a message back to its sender, and counts it. `peer`: whom it did not reach, or 0. `takes`:
 * as of tp__peer_deliver(). */
void tp__return(
    tp__hub *hub, const tp__sent *message, uint32_t peer, tp_bus_reason reason, uint32_t takes);

/* ---- acks.c ---------------------------------------------------------------------------------- */

/* The first sweep, at start, with `sweep_armed` set before: TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__confirm_start(tp__hub *hub);

/* `peer` has had its message number `taken` taken charge of: it will hear of it in time, unless it
 * has been told already. The session's. */
void tp__confirm_later(tp__hub *hub, tp__peer *peer, uint32_t taken);

/* ---- hub.c ----------------------------------------------------------------------------------- */

/* Where the session comes from; all zero: it is gone. */
tp_address tp__hub_address_of(tp__hub *hub, tp_session_id session);

/* Ends a session that broke the protocol; says so in the log, at a place of the caller's. */
void tp__hub_protocol_error(
    tp__hub *hub, tp_session_id session, tp_log_place *place, const char *what);

#define TP__HUB_PROTOCOL_ERROR(hub, session, what)                                                 \
    do {                                                                                           \
        static tp_log_place tp__error_place;                                                       \
        tp__hub_protocol_error((hub), (session), &tp__error_place, (what));                        \
    } while (0)

#endif
