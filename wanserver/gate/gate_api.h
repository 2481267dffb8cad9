/*
 * The gate: passes messages between the players of a server and the peers of services on the bus.
 * docs/gate-protocol.md describes the messages on both sides.
 *
 * It uses only the public handlers of twinport/server.h and lanclient; the core does not depend on
 * it. It runs on any tp_server: in wanserver on the WAN's, in most tests on a LAN server.
 *
 *     tp__gate_options options;
 *     tp__gate_defaults(&options);
 *     options.bus.address = ...;            // of lanserver
 *     options.service = "arena";            // the players' first service
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
 *     tp__gate_stats_text(gate, text, sizeof text);
 *     tp_server_destroy(server);
 *     tp__gate_destroy(gate);
 */
#ifndef TWINPORT_WANSERVER_GATE_GATE_API_H
#define TWINPORT_WANSERVER_GATE_GATE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/stats_list.h"
#include "proto/token.h"
#include "twinport/lanclient.h"
#include "twinport/server.h"

typedef struct tp__gate tp__gate;

/* tp_session_identity(), or a test's own. Called under the gate's mutex. */
typedef bool tp__gate_identity(tp_server *server, tp_session_id session, tp_identity *identity);

typedef struct tp__gate_options {
    tp_lanclient_options bus;    /* its service is that of the gates ("gate"); its context is not
                                    used */
    const char *service;         /* where players go first: 1..63 bytes of a-z 0-9 . _ -, other than
                                    that of the gates; copied */
    tp__gate_identity *identity; /* NULL: no player has an identity */

    size_t largest_message;     /* of a player: the server's max_frame. A hub that does not accept
                                   as much is logged. 0: not compared */
    unsigned max_players;       /* that play at once, 1..TP_MAX_SESSIONS */
    unsigned max_waiting;       /* players in the waiting room; 0: no waiting room. The sum of both
                                   is at most TP_MAX_SESSIONS */
    unsigned place_interval_ms; /* from one round of positions to the next, 10..3,600,000 */
    unsigned keep_players;      /* players kept while their service has no peer,
                                   0..TP_MAX_SESSIONS */
    unsigned keep_ms;           /* how long a player is kept, 0..86,400,000 */
    uint16_t lost_close;        /* close code of players beyond keep_players or keep_ms */
    unsigned max_services;      /* that players may be at, the first one included, 1..1,024 */
    unsigned drain_ms;          /* a stop: for services to confirm that players have left,
                                   0..600,000 */
} tp__gate_options;

/* lanclient's defaults with the service "gate" and port 7400; 4,096 players, no waiting room, a
 * round of positions each second, all players kept for 30 s, then closed with `shutdown`; 64
 * services; 5 s to drain. `service` is to be set by the caller. */
void tp__gate_defaults(tp__gate_options *options);

/* Options and names are copied. TP_ERR_INVALID (the log names the option), TP_ERR_NO_MEMORY. On
 * error *gate is NULL. */
tp_err tp__gate_create(const tp__gate_options *options, tp__gate **gate);

/* Fills in the handlers for the server, whose context must be the gate. on_connection_request,
 * on_send, on_worker_... and on_error stay NULL; the caller may set them. */
void tp__gate_handlers(tp_handlers *handlers);

/* Starts lanclient, then the server. TP_ERR_STATE if the gate runs; else the errors of both starts,
 * after which neither runs. Not from a handler. */
tp_err tp__gate_start(tp__gate *gate, tp_server *server);

/* Begins to stop, and returns at once: the server closes its players with `shutdown`. Any thread,
 * any handler. */
void tp__gate_stop(tp__gate *gate);

/* Waits until the server has stopped, the services have confirmed that its players have left (at
 * most drain_ms), and lanclient has stopped; at most timeout_ms (-1: for ever). All of it takes at
 * most drain_ms + TP__STOP_REST_MS (core/base/deadline.h) from the stop, or TP__STOP_REST_MS from
 * the server's end if that is later. After TP_OK the gate may be started again. TP_ERR_TIMED_OUT,
 * TP_ERR_STATE (tp__gate_stop() has not been called), TP_ERR_WRONG_THREAD (from a handler). One
 * thread at a time. */
tp_err tp__gate_wait(tp__gate *gate, int timeout_ms);

/* Stops lanclient if it runs, and frees the gate; the server must have been destroyed, or have
 * stopped. NULL is ignored. If the server is destroyed before tp__gate_wait() has returned TP_OK,
 * no service may be sending to its players at that time: the gate passes messages to the server
 * without a lock. */
void tp__gate_destroy(tp__gate *gate);

tp_lanclient *tp__gate_client(tp__gate *gate);

/* ---- statistics ------------------------------------------------------------------------------ */

/* Why a player's message was not passed to a service. X(code name, word). */
#define TP__GATE_DROPS(X)                                                                          \
    X(TP__GATE_DROP_WAITING, "waiting")       /* in the waiting room: a protocol error */          \
    X(TP__GATE_DROP_NO_SERVICE, "no-service") /* the player is not at a peer */                    \
    X(TP__GATE_DROP_BUS_FULL, "bus-full")                                                          \
    X(TP__GATE_DROP_TOO_LARGE, "too-large")                                                        \
    X(TP__GATE_DROP_NO_MEMORY, "no-memory")

typedef enum tp__gate_drop {
#define TP__GATE_DROP_ENUM(name, word) name,
    TP__GATE_DROPS(TP__GATE_DROP_ENUM)
#undef TP__GATE_DROP_ENUM
        TP__GATE_DROP_COUNT
} tp__gate_drop;

/* Why a copy of a service's message was not passed to a player. */
#define TP__GATE_REFUSALS(X)                                                                       \
    X(TP__GATE_REFUSED_NO_PLAYER, "no-player") /* has left, or is not at that peer */              \
    X(TP__GATE_REFUSED_NOT_TAKEN, "not-taken") /* send queue full, or session being ended */

typedef enum tp__gate_refusal {
#define TP__GATE_REFUSAL_ENUM(name, word) name,
    TP__GATE_REFUSALS(TP__GATE_REFUSAL_ENUM)
#undef TP__GATE_REFUSAL_ENUM
        TP__GATE_REFUSAL_COUNT
} tp__gate_refusal;

/*
 * The gate's statistics; their names in the text are the same.
 *
 *     NOW(name)           the state at the moment of the call; all others count since creation
 *     LOCKED(name)        joining and leaving: counted under the mutex
 *     COUNT(name)         messages: counted without it
 *     PARTS(name, count)  likewise, by reason
 *
 * When nothing is under way:
 *
 *     from_players = forwarded + the sum of dropped
 *     to_players = sent + the sum of refused
 *     joined = confirmed_leaves + lost_visits + visits
 *     waited = admitted + gave_up + waiting
 *     arrived = left + players + waiting + sessions that are being ended
 */
#define TP__GATE_STATS(NOW, LOCKED, COUNT, PARTS)                                                  \
    NOW(players)        /* players that play now, kept ones included; not those being ended */     \
    NOW(kept)           /* players that are kept now */                                            \
    NOW(waiting)        /* players in the waiting room now */                                      \
    NOW(services)       /* services that have a slot now */                                        \
    NOW(peers)          /* peers of these services now */                                          \
    NOW(visits)         /* assignments now, until the player's leaving is confirmed */             \
    LOCKED(arrived)     /* sessions that joined the server */                                      \
    LOCKED(left)        /* sessions that left the server */                                        \
    LOCKED(waited)      /* players that came into the waiting room */                              \
    LOCKED(admitted)    /* players that were admitted from the waiting room */                     \
    LOCKED(gave_up)     /* players that left the waiting room otherwise */                         \
    LOCKED(turned_away) /* players that found gate and waiting room full, or no memory */          \
    LOCKED(joined)      /* assignments begun: first JOINs handed to the bus */                     \
    LOCKED(returns)     /* assignments begun that were flagged RETURN */                           \
    LOCKED(confirmed_leaves) /* assignments ended by the peer's answer, or that needed none */     \
    LOCKED(lost_visits)      /* other assignments ended: peer or bus lost, peer incompatible */    \
    LOCKED(retries)          /* failed attempts of JOIN or LEAVE: bus full, or no answer */        \
    LOCKED(refused_joins)    /* JOINs refused by the service, or too large */                      \
    LOCKED(kept_total)       /* players without a peer: kept, or closed at once */                 \
    LOCKED(lost_closed)      /* of these, closed: beyond keep_players or keep_ms */                \
    LOCKED(kicked)           /* players kicked by services */                                      \
    LOCKED(moved)            /* players moved by services */                                       \
    LOCKED(not_moved)        /* moves that could not be done */                                    \
    COUNT(from_players)      /* messages of players */                                             \
    COUNT(forwarded)         /* messages of players that were handed to the bus */                 \
    COUNT(returned)          /* forwarded messages that the bus has returned */                    \
    PARTS(dropped, TP__GATE_DROP_COUNT)    /* messages of players not handed to the bus */         \
    COUNT(to_players)                      /* messages of services, one for each player */         \
    COUNT(sent)                            /* messages of services that were sent to a player */   \
    PARTS(refused, TP__GATE_REFUSAL_COUNT) /* messages of services that were not */                \
    COUNT(malformed) /* messages of peers that are none of the protocol: returned */

typedef struct tp__gate_stats {
#define TP__GATE_STATS_NOW(name)          unsigned name;
#define TP__GATE_STATS_PARTS(name, count) uint64_t name[count];
    TP__GATE_STATS(TP__GATE_STATS_NOW, TP__STATS_FIELD, TP__STATS_FIELD, TP__GATE_STATS_PARTS)
#undef TP__GATE_STATS_NOW
#undef TP__GATE_STATS_PARTS
} tp__gate_stats;

/* Any thread. Each number is right; the equations hold when nothing is under way. */
void tp__gate_get_stats(tp__gate *gate, tp__gate_stats *stats);

/* Writes the statistics into `text` as `name=value` lines and a zero byte; a line that does not fit
 * into `capacity` is left out. Returns the number of bytes before the zero byte. Any thread. */
#define TP__GATE_STATS_TEXT_SIZE 2048 /* enough for all lines */
size_t tp__gate_stats_text(tp__gate *gate, char *text, size_t capacity);

/* Calls `call` for each assignment that a peer has, under the gate's mutex: for tests. */
void tp__gate_each_assignment(tp__gate *gate,
    void (*call)(void *context, tp_peer_id peer, tp_session_id session), void *context);

#endif
