/*
 * Internals of lanclient, shared by its files.
 *
 * A client is a server that does not listen (`network`) and opens one connection at a time, to the
 * hub. Its link is in one of these states, under `mutex`:
 *
 *     OFF         --start-->             WAITING
 *     WAITING     --connect-->           CONNECTING
 *     CONNECTING  --on_join, HELLO-->    REGISTERING
 *     REGISTERING --WELCOME-->           ARRIVING
 *     ARRIVING    --all PEER_UPs-->      UP
 *     CONNECTING, REGISTERING, ARRIVING, UP
 *                 --on_leave-->          WAITING, or STRANDED if no attempt can be scheduled
 *     STRANDED    --next send-->         WAITING
 *     any         --stop-->              OFF
 *
 * A stop may be requested in any state; then nothing connects again after the last session has
 * left.
 *
 * THREADS. The application's threads send: under `mutex` a message is appended to the
 * unacknowledged messages and to the send queue, as one step, since acknowledgements are counts.
 * The handlers of the connection (on_join, on_recv, on_leave of `network`) run one after another;
 * fields marked "link" are accessed only by them. A new connection is opened only after the
 * previous one's on_leave. The tick and the other tasks run on any worker.
 *
 * `mutex` is held briefly: under it a packet is queued, the drain posted, the network stopped, or
 * the mutex of the requests or of the peer table taken, and nothing else. No handler of the
 * application runs under a lock.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_CLIENT_H
#define TWINPORT_LANCLIENT_CLIENT_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bus/unacked.h"
#include "core/base/counter.h"
#include "core/base/lifecycle.h"
#include "core/base/stats_list.h"
#include "lanclient/client/link_clock.h"
#include "lanclient/client/peer_table.h"
#include "lanclient/client/requests.h"
#include "os/thread.h"
#include "proto/bus.h"
#include "twinport/lanclient.h"
#include "twinport/server.h"

/*
 * The fields of tp_lanclient_stats in their order:
 *
 *     COUNT(name)  a counter of the client
 *     OTHER(name)  read elsewhere
 */
#define TP__CLIENT_STATS(COUNT, OTHER)                                                             \
    OTHER(sent)                                                                                    \
    OTHER(confirmed)                                                                               \
    OTHER(lost)                                                                                    \
    OTHER(unconfirmed)                                                                             \
    COUNT(returned)                                                                                \
    COUNT(received)                                                                                \
    OTHER(requests)                                                                                \
    OTHER(requests_open)                                                                           \
    COUNT(replies)                                                                                 \
    COUNT(timed_out)                                                                               \
    COUNT(peers_gone)                                                                              \
    COUNT(late)                                                                                    \
    COUNT(connections)                                                                             \
    COUNT(connect_failures)                                                                        \
    COUNT(trims)

typedef enum tp__link_state {
    TP__LINK_OFF,         /* not started, or stopped */
    TP__LINK_WAITING,     /* until the next attempt */
    TP__LINK_STRANDED,    /* the next attempt could not be scheduled: the next send schedules it */
    TP__LINK_CONNECTING,  /* no session yet */
    TP__LINK_REGISTERING, /* HELLO is sent */
    TP__LINK_ARRIVING,    /* WELCOME has been received, some PEER_UPs have not */
    TP__LINK_UP
} tp__link_state;

struct tp_lanclient {
    tp_lanclient_options options; /* strings point to the copies below */
    tp_lanclient_handlers handlers;
    char service[TP_NAME_MAX + 1];
    char instance[TP_NAME_MAX + 1];
    char io[16];
    tp_server *network;

    tp_mutex mutex;
    tp__lifecycle lifecycle; /* mutex, as all fields down to `requested`; its last step is the
                               network's stop */
    tp__link_state state;
    uint64_t welcome_by_ms; /* link clock: deadline of REGISTERING and ARRIVING */
    tp_session_id session;
    uint64_t hub;         /* instance of the current hub, or of the previous one */
    uint32_t max_payload; /* largest message that the hub accepts, header included */
    tp_ticket last_ticket;
    unsigned attempts;       /* since the start, or since a link lasted */
    uint64_t up_since_ms;    /* start of UP */
    unsigned link_worker;    /* link_clock.c: the worker that serves the link, or served the last */
    uint64_t clock_ahead_ms; /* link_clock.c: link clock minus that worker's served time */
    tp__unconfirmed unconfirmed;
    uint64_t sent;
    uint64_t confirmed_before; /* acknowledged on earlier connections */
    uint64_t lost;
    uint64_t requested;

    /* The value of `processed` last sent to the hub. Written under mutex. */
    _Atomic uint32_t acknowledged;
    _Atomic uint32_t processed; /* written by link: deliveries processed on this connection */
    _Atomic uint32_t self;      /* TP_NO_PEER unless UP */
    uint32_t self_given;        /* link: own id, from WELCOME */
    uint32_t ack_messages;      /* link: messages after which to acknowledge, from WELCOME */
    uint32_t awaited;           /* link: PEER_UPs that must still come before UP */
    uint32_t processed_at_tick; /* tick: `processed` at the previous tick */

    tp__requests requests;
    tp__peer_table peers;

    _Atomic bool tick_armed;
    uint64_t trim_seen; /* trim: activity at the previous check */
    bool trimmed;

    TP__CLIENT_STATS(TP__STATS_ATOMIC, TP__STATS_NONE)
};

/* ---- lanclient.c ----------------------------------------------------------------------------- */

/* True from a stop request until the next start. Any thread. */
bool tp__lanclient_stopping(tp_lanclient *client);

/* ---- link.c ---------------------------------------------------------------------------------- */

/* Handlers of `network`. */
void tp__link_on_join(tp_server *network, tp_session_id session);
void tp__link_on_leave(tp_server *network, tp_session_id session, tp_end_reason reason);

/* A valid WELCOME has been received. Link. */
void tp__link_welcomed(tp_lanclient *client, const tp_bus_welcome *welcome);
/* One of the awaited PEER_UPs has been received; the last one makes the link UP. Link. */
void tp__link_arrived(tp_lanclient *client);

/* Schedules the next attempt to connect, after the back-off; `first`: at once. */
void tp__link_schedule(tp_lanclient *client, bool first);

/* Ends a connection that has not come up in time. True: it must be checked again. */
bool tp__link_watch(tp_lanclient *client);

/* ---- client_receive.c ------------------------------------------------------------------------ */

void tp__link_on_recv(tp_server *network, tp_session_id session, tp_packet *packet);

/* Counts the outcome of a request that was taken out of the table, and calls its callback. */
void tp__request_answer(tp_lanclient *client, const tp__request *request, tp_err error,
    const tp_delivery *from, tp_packet *packet);

/* ---- client_send.c --------------------------------------------------------------------------- */

/* Sends an ACK if there are unacknowledged deliveries. Takes the mutex. */
void tp__lanclient_ack(tp_lanclient *client);
/* The same, under the mutex. */
void tp__lanclient_ack_locked(tp_lanclient *client);

/* ---- client_check.c -------------------------------------------------------------------------- */

/* The first invariant of the fields under `mutex` that does not hold, or NULL. Under the mutex. */
const char *tp__lanclient_check(const tp_lanclient *client);

/* ---- tick.c ---------------------------------------------------------------------------------- */

/* Posts the first tick, at start. TP_ERR_NO_MEMORY, TP_ERR_STATE (the network does not run). */
tp_err tp__tick_start(tp_lanclient *client);
/* Posts a tick, if none is posted: there is an unacknowledged delivery, an open request or a
 * pending link. Any thread. */
void tp__tick_arm(tp_lanclient *client);
/* One more delivery has been processed. Link. */
void tp__tick_processed(tp_lanclient *client);
/* Starts the periodic check for idleness. */
void tp__trim_start(tp_lanclient *client);

#endif
