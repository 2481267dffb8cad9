/*
 * The client's inside: what its files share.
 *
 * A client is a server that does not listen (`network`) and opens one connection at a time, to the
 * hub. Its link is in one of these states, under `mutex`:
 *
 *     OFF         --start-->             WAITING
 *     WAITING     --connect-->           CONNECTING
 *     CONNECTING  --on_join, HELLO-->    GREETING
 *     GREETING    --WELCOME-->           ARRIVING
 *     ARRIVING    --all peers known-->   UP
 *     CONNECTING, GREETING, ARRIVING, UP
 *                 --on_leave-->          WAITING, or STRANDED if no attempt can be scheduled
 *     STRANDED    --the next send-->     WAITING
 *     any         --stop-->              OFF
 *
 * `stopping` comes beside any of them; when the last session has left then, nothing connects again.
 *
 * THREADS. User's threads send: under `mutex` a message is entered among the unconfirmed ones and
 * queued, as one step, since confirmations are counts. The connection's handlers (on_join, on_recv,
 * on_leave of `network`) come one after another and alone touch what is marked "the link's"; a new
 * connection is opened only after the last one's on_leave. The tick and the other tasks run on any
 * worker.
 *
 * `mutex` is short: nothing is called under it but the queueing of a packet, the posting of the
 * drain and the stop of the network, and the requests' and the known peers' own mutexes. No
 * handler of the user's runs under any lock.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_CLIENT_H
#define TWINPORT_LANCLIENT_CLIENT_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bus/unacked.h"
#include "lanclient/client/link_clock.h"
#include "lanclient/client/peer_table.h"
#include "lanclient/client/requests.h"
#include "os/thread.h"
#include "proto/bus.h"
#include "twinport/lanclient.h"
#include "twinport/server.h"

typedef enum tp__link_state {
    TP__LINK_OFF,        /* not started, or stopped */
    TP__LINK_WAITING,    /* for the next attempt */
    TP__LINK_STRANDED,   /* the next attempt could not be scheduled: the next send tries again */
    TP__LINK_CONNECTING, /* no session yet */
    TP__LINK_GREETING,   /* HELLO is said */
    TP__LINK_ARRIVING,   /* WELCOME has come, some PEER_UPs have not */
    TP__LINK_UP
} tp__link_state;

struct tp_lanclient {
    tp_lanclient_options options; /* names point to the copies below */
    tp_lanclient_handlers handlers;
    char service[TP_NAME_MAX + 1];
    char instance[TP_NAME_MAX + 1];
    char io[16];
    tp_server *network;

    tp_mutex mutex;
    tp_condition changed; /* network_told, starting */
    tp__link_state state; /* mutex, like all up to `handled` */
    bool started;
    bool starting; /* a thread is inside tp_lanclient_start() */
    bool stopping;
    bool network_told;    /* to stop */
    uint64_t stop_by_ms;  /* confirmations are not waited for any more */
    uint64_t end_by_ms;   /* the network has stopped too; UINT64_MAX: as its own time-out says */
    uint64_t greet_by_ms; /* on the link's clock: GREETING and ARRIVING end here */
    tp_session_id session;
    uint64_t hub;         /* the hub's instance, of this link or the last */
    uint32_t max_payload; /* what the hub takes */
    tp_ticket last_ticket;
    unsigned attempts;       /* since a link last lasted, or the start */
    uint64_t up_since_ms;    /* UP: since when */
    unsigned link_worker;    /* link_clock.c's: who serves the link, or served the last one */
    uint64_t clock_ahead_ms; /* ... and the link's clock less that worker's served time */
    tp__unconfirmed unconfirmed;
    uint64_t sent;
    uint64_t confirmed_before; /* by earlier connections */
    uint64_t lost;
    uint64_t requested;

    _Atomic uint32_t told;    /* written under mutex: the count of handled last told to the hub */
    _Atomic uint32_t handled; /* the link's: of this connection */
    _Atomic uint32_t self;    /* TP_NO_PEER unless UP */
    uint32_t self_given;      /* the link's: by WELCOME */
    uint32_t ack_messages;    /* the link's: the hub's wish, by WELCOME */
    uint32_t awaited;         /* the link's: PEER_UPs to come before it is up */
    uint32_t swept;           /* the tick's */

    tp__requests requests;
    tp__known known;

    _Atomic bool tick_armed;
    uint64_t trim_seen; /* the trim's: activity when it last looked */
    bool trimmed;

    _Atomic uint64_t returned;
    _Atomic uint64_t received;
    _Atomic uint64_t replies;
    _Atomic uint64_t timed_out;
    _Atomic uint64_t peers_gone;
    _Atomic uint64_t late;
    _Atomic uint64_t connections;
    _Atomic uint64_t connect_failures;
    _Atomic uint64_t trims;
};

static inline void tp__lanclient_count(_Atomic uint64_t *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- lanclient.c ----------------------------------------------------------------------------- */

/* A stop has been asked for, and nothing was started since. Any thread. */
bool tp__lanclient_stopping(tp_lanclient *client);

/* ---- link.c: coming and going ---------------------------------------------------------------- */

/* The handlers of `network`. */
void tp__link_on_join(tp_server *network, tp_session_id session);
void tp__link_on_leave(tp_server *network, tp_session_id session, tp_end_reason reason);

/* WELCOME has been read and found good. */
void tp__link_welcomed(tp_lanclient *client, const tp_bus_welcome *welcome);
/* One of the PEER_UPs that were awaited has come; the last one makes it up. */
void tp__link_arrived(tp_lanclient *client);

/* The next attempt to connect, after the back-off; `first`: at once. */
void tp__link_schedule(tp_lanclient *client, bool first);

/* Cuts a connection whose hub does not say WELCOME in time. True: it must still be watched. */
bool tp__link_watch(tp_lanclient *client);

/* ---- client_receive.c ------------------------------------------------------------------------ */

void tp__link_on_recv(tp_server *network, tp_session_id session, tp_packet *packet);

/* Calls the callback of a request that has been taken out of the table. */
void tp__request_answer(tp_lanclient *client, const tp__request *request, tp_err error,
    const tp_delivery *from, tp_packet *packet);

/* ---- client_send.c --------------------------------------------------------------------------- */

/* Sends an ACK if there is something to confirm. */
void tp__lanclient_ack(tp_lanclient *client);
/* The same under the mutex. */
void tp__lanclient_ack_locked(tp_lanclient *client);

/* ---- tick.c: what is due by the clock -------------------------------------------------------- */

/* The first tick, at start: TP_ERR_NO_MEMORY, TP_ERR_STATE (the network does not run). */
tp_err tp__tick_start(tp_lanclient *client);
/* There is something to look after: an unconfirmed delivery, an open request, a greeting. */
void tp__tick_arm(tp_lanclient *client);
/* One more delivery has been handled. The link's. */
void tp__tick_handled(tp_lanclient *client);
/* Starts the idle watch. */
void tp__trim_start(tp_lanclient *client);

#endif
