/*
 * The gate: passes messages between the players of a server and the peers of services on the bus.
 * docs/gate-protocol.md is what it speaks to both.
 *
 * Written on the public handlers of twinport/server.h and on lanclient; the engine knows nothing of
 * it. It runs on any tp_server: wanserver's, and in tests a LAN server.
 *
 *     tp__gate_options options;
 *     tp__gate_defaults(&options);
 *     options.bus.address = ...;            // of lanserver
 *     options.service = "arena";            // whose players they are
 *     options.identity = tp_session_identity;
 *     tp__gate *gate = NULL;
 *     tp_err error = tp__gate_create(&options, &gate);
 *
 *     tp_wanserver_options wan;
 *     ...
 *     wan.server.context = gate;
 *     wan.server.max_sessions = options.max_players + options.max_waiting;
 *     tp_handlers handlers;
 *     tp__gate_handlers(&handlers);
 *     if (!error) error = tp_wanserver_create(&wan, &handlers, &server);
 *     if (!error) error = tp__gate_start(gate, server);
 *     ...
 *     tp__gate_stop(gate);
 *     tp__gate_wait(gate, -1);
 *     tp__gate_report(gate, text, sizeof text);
 *     tp_server_destroy(server);
 *     tp__gate_destroy(gate);
 */
#ifndef TWINPORT_WANSERVER_GATE_GATE_API_H
#define TWINPORT_WANSERVER_GATE_GATE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/token.h"
#include "twinport/lanclient.h"
#include "twinport/server.h"

typedef struct tp__gate tp__gate;

/* tp_session_identity(), or a test's own. */
typedef bool tp__gate_identity(tp_server *server, tp_session_id session, tp_identity *identity);

typedef struct tp__gate_options {
    tp_lanclient_options bus;    /* its service is the gates' ("gate"); its context is not used */
    const char *service;         /* where players go first: 1..63 bytes of a-z 0-9 . _ -, not the
                                    gates' own; copied */
    tp__gate_identity *identity; /* NULL: nobody has one */

    size_t largest_message; /* of a player: the server's max_frame; said in the log when the hub has
                               no room for it. 0: it is not looked at */
    unsigned max_players;   /* who play at once, 1..TP_MAX_SESSIONS */
    unsigned max_waiting;   /* ... and wait for a place; 0: no waiting room. Both together are at
                              most TP_MAX_SESSIONS */
    unsigned tell_ms;       /* how often one who waits is told a new place at most, 10..3,600,000 */
    unsigned keep_players;  /* kept while no peer of their service is there, 0..TP_MAX_SESSIONS */
    unsigned keep_ms;       /* ... and for how long, 0..86,400,000 */
    uint16_t lost_close;    /* the close code of those who are not, or no longer */
    unsigned max_services;  /* that players may be moved to, the first one included, 1..1,024 */
    unsigned drain_ms;      /* a stop: for services to confirm that players have left, 0..600,000 */
} tp__gate_options;

/* lanclient's defaults with the service "gate" and port 7400; 4,096 players, nobody waits, places
 * told once a second, all players kept for 30 s, then closed with `shutdown`; 64 services; 5 s to
 * drain. `service` is the caller's to set. */
void tp__gate_defaults(tp__gate_options *options);

/* Options and names are copied. TP_ERR_INVALID (the log says which option), TP_ERR_NO_MEMORY. On
 * error *gate is NULL. */
tp_err tp__gate_create(const tp__gate_options *options, tp__gate **gate);

/* The handlers for the server, whose context must be the gate. on_connection_request, on_send,
 * on_worker_... and on_error are the caller's to fill in. */
void tp__gate_handlers(tp_handlers *handlers);

/* Starts lanclient, then the server. Their errors; then neither runs. Not from a handler. */
tp_err tp__gate_start(tp__gate *gate, tp_server *server);

/* Begins to stop, any thread, any handler: the server closes its players with `shutdown`. */
void tp__gate_stop(tp__gate *gate);

/* Waits until the server has stopped, the services have confirmed that its players left (at most
 * drain_ms), and lanclient has stopped, which takes drain_ms + TP__STOP_REST_MS
 * (core/base/deadline.h) from the stop, or TP__STOP_REST_MS from the server's end if that is later.
 * At most timeout_ms (-1: for ever). Then it may be started again. TP_OK, TP_ERR_TIMED_OUT,
 * TP_ERR_STATE (it was not asked to stop), TP_ERR_WRONG_THREAD (from a handler). One thread at a
 * time. */
tp_err tp__gate_wait(tp__gate *gate, int timeout_ms);

/* Stops if needed, and frees; the server must have been destroyed, or have stopped. NULL is
 * ignored. A server that is destroyed before tp__gate_wait() has returned TP_OK must have no
 * players whom a service is just talking to: messages find their way to it without a lock. */
void tp__gate_destroy(tp__gate *gate);

tp_lanclient *tp__gate_client(tp__gate *gate);

/* ---- what happened --------------------------------------------------------------------------- */

/* Why a player's message did not get to a service. X(code name, word). */
#define TP__GATE_DROPS(X)                                                                          \
    X(TP__GATE_DROP_WAITING, "waiting") /* he is still waiting for a place: protocol error */      \
    X(TP__GATE_DROP_NO_SERVICE, "no-service") /* no peer of his service has him (yet) */           \
    X(TP__GATE_DROP_BUS_FULL, "bus-full")                                                          \
    X(TP__GATE_DROP_TOO_LARGE, "too-large")                                                        \
    X(TP__GATE_DROP_NO_MEMORY, "no-memory")

typedef enum tp__gate_drop {
#define TP__GATE_DROP_ENUM(name, word) name,
    TP__GATE_DROPS(TP__GATE_DROP_ENUM)
#undef TP__GATE_DROP_ENUM
        TP__GATE_DROP_COUNT
} tp__gate_drop;

/* Why a service's message did not get to a player. */
#define TP__GATE_REFUSALS(X)                                                                       \
    X(TP__GATE_REFUSED_NO_PLAYER, "no-player") /* he is gone, or not that peer's */                \
    X(TP__GATE_REFUSED_NOT_TAKEN, "not-taken") /* his queue is full, or he is being closed */

typedef enum tp__gate_refusal {
#define TP__GATE_REFUSAL_ENUM(name, word) name,
    TP__GATE_REFUSALS(TP__GATE_REFUSAL_ENUM)
#undef TP__GATE_REFUSAL_ENUM
        TP__GATE_REFUSAL_COUNT
} tp__gate_refusal;

/*
 * When nothing moves:
 *     from_players = forwarded + the sum of dropped       to_players = sent + the sum of refused
 *     joined = confirmed_leaves + lost_visits + visits
 *     arrived = left + players + waiting + those who are being ended and have not hung up
 */
typedef struct tp__gate_account {
    unsigned players;          /* who play, now; the kept ones included, not who is being ended */
    unsigned kept;             /* ... of whom no peer has */
    unsigned waiting;          /* for a place, now */
    unsigned services;         /* known, now */
    unsigned peers;            /* of them, now */
    unsigned visits;           /* players at peers, now, until their leaving is confirmed */
    uint64_t arrived;          /* sessions that came */
    uint64_t left;             /* ... and went */
    uint64_t waited;           /* who had to wait for a place */
    uint64_t admitted;         /* ... and got one */
    uint64_t gave_up;          /* ... and left without */
    uint64_t turned_away;      /* came when both were full, or memory was out */
    uint64_t joined;           /* visits begun: JOINs handed to the bus for the first time */
    uint64_t returns;          /* ... flagged as a return */
    uint64_t confirmed_leaves; /* visits ended by the peer's word, or before it had heard of them */
    uint64_t lost_visits;      /* ... because the peer, or the bus, was lost */
    uint64_t retries;       /* JOINs and LEAVEs said again: the bus was full, or no answer came */
    uint64_t refused_joins; /* by the service */
    uint64_t kept_total;    /* players that came to be kept */
    uint64_t lost_closed;   /* ... and were closed: too many, or too long */
    uint64_t kicked;
    uint64_t moved;
    uint64_t not_moved; /* moves that could not be done */
    uint64_t from_players;
    uint64_t forwarded;
    uint64_t returned; /* part of forwarded: the bus gave it back */
    uint64_t dropped[TP__GATE_DROP_COUNT];
    uint64_t to_players; /* copies */
    uint64_t sent;
    uint64_t refused[TP__GATE_REFUSAL_COUNT];
    uint64_t malformed; /* messages of peers that are none of a service's: returned */
} tp__gate_account;

/* Any thread. Each number is right; their sums fit when nothing moves. */
void tp__gate_get_account(tp__gate *gate, tp__gate_account *account);

/* The account as `name=value` lines into `text`, cut at `room`; returns how many bytes. Any
 * thread. */
#define TP__GATE_REPORT_ROOM 2048
size_t tp__gate_report(tp__gate *gate, char *text, size_t room);

/* Calls `visit` for each player that a peer has, under the gate's lock: for tests. */
void tp__gate_each_visit(tp__gate *gate,
    void (*visit)(void *context, tp_peer_id peer, tp_session_id session), void *context);

#endif
