/*
 * backend: what a game service links to have players. They come through gates (wanserver) over the
 * bus; a service knows neither the bus's bytes nor the gates'.
 *
 *     #include <twinport/backend.h>
 *
 *     static void on_message(tp_backend *backend, const tp_player *player, tp_packet *packet) {
 *         tp_backend_send(backend, player, packet); // to whom it came from: an echo
 *     }
 *
 *     int main(void) {
 *         tp_backend_options options;
 *         tp_backend_defaults(&options);
 *         options.bus.service = "arena";
 *         tp_address_parse("127.0.0.1:7400", &options.bus.address);
 *
 *         tp_backend_handlers handlers = {.size = sizeof handlers};
 *         handlers.on_player_message = on_message;
 *         tp_backend *backend = NULL;
 *         tp_err error = tp_backend_create(&options, &handlers, &backend);
 *         if (!error) error = tp_backend_start(backend);
 *         ...                  // gates find it by its service's name, and players join
 *         tp_backend_stop(backend);
 *         tp_backend_wait(backend, -1);
 *         tp_backend_destroy(backend);
 *     }
 *
 * PLAYERS. A tp_player names one player from his on_player_join to his on_player_leave. Copy it
 * freely; compare with tp_player_same(); no two players ever have the same one. `index` is
 * 0..max_players-1 and one player has it at a time: it is there for arrays of your own. A name
 * whose player has left is harmless: calls say TP_ERR_NO_SESSION.
 *
 *     on_player_join -> on_player_message, any number -> on_player_leave
 *
 * Each player has each of join and leave exactly once, in this order, and no message outside of it.
 * If a gate, or the bus, is lost, its players leave (TP_LEAVE_GATE_LOST, TP_LEAVE_BUS_LOST); if it
 * comes back while the gate has kept them, they join anew, under new names and marked
 * TP_PLAYER_RETURNS.
 *
 * HANDLERS come one after another, on the worker threads of the backend's lanclient, never from
 * inside a call of yours and never with a lock held: every function here may be called from every
 * handler, except wait and destroy. A handler that blocks holds up everything behind it.
 * (on_player_stays and answers to requests of your own may, when they time out, run beside others
 * if bus.workers > 1.)
 *
 * PACKETS that you send are copied into the bus's message: they stay yours, unsealed, and may be
 * sent again. The packet on_player_message is given is valid until it returns; retain it to keep
 * it.
 *
 * WHAT MAY GET LOST. A call that returns TP_OK has handed the message to the bus. What the bus then
 * returns (a gate's queue is full, a gate is lost) is counted (`returned`) and shown to
 * handlers.bus.on_returned; what a gate cannot give to a player (he is gone, his queue is full) is
 * in the gate's account. Messages to one player arrive in the order of the calls of one thread.
 *
 * LOCKS. Receiving and tp_backend_send() take no lock but lanclient's own; sending to many neither;
 * sending to all, and tp_backend_player_info(), take the backend's, for as long as it takes to copy
 * a list of numbers, or a struct.
 */
#ifndef TWINPORT_BACKEND_H
#define TWINPORT_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"
#include "twinport/error.h"
#include "twinport/lanclient.h"
#include "twinport/packet.h"
#include "twinport/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tp_backend tp_backend;

/* ---- players --------------------------------------------------------------------------------- */

/* 16 bytes without a gap: equal names are equal bytes. Zero is nobody's. */
typedef struct tp_player {
    uint64_t session; /* at the gate */
    tp_peer_id gate;  /* on the bus */
    uint32_t index;   /* here: 0..max_players-1 */
} tp_player;

static inline bool tp_player_same(const tp_player *a, const tp_player *b) {
    return a->session == b->session && a->gate == b->gate && a->index == b->index;
}

#define TP_PLAYER_USER_DATA 48u
#define TP_PLAYER_BLOB_MAX  1024u /* bytes that a move hands on */

enum {                     /* tp_player_info.flags */
    TP_PLAYER_RETURNS = 1, /* he was with this service before, and its peer, or the bus, was lost */
    TP_PLAYER_MOVED = 2,   /* another peer's tp_backend_move() brought him */
    TP_PLAYER_IDENTIFIED = 4 /* account, account_flags and user_data are from his token */
};

/* Who he is. */
typedef struct tp_player_info {
    size_t size; /* sizeof(tp_player_info) */
    tp_player player;
    uint32_t flags;         /* TP_PLAYER_... */
    uint32_t account_flags; /* as the login service wrote them */
    uint64_t account;       /* 0 unless TP_PLAYER_IDENTIFIED: never trust it otherwise */
    uint8_t user_data[TP_PLAYER_USER_DATA]; /* as the login service wrote it */
    tp_address address;                     /* where he comes from; its scope is 0 */
    /* In on_player_join: what the last move handed on, however long ago; with TP_PLAYER_RETURNS it
     * comes again. Valid until the handler returns. Else NULL. */
    const uint8_t *blob;
    size_t blob_size; /* 0..TP_PLAYER_BLOB_MAX */
} tp_player_info;

/* Why a player leaves. */
typedef enum tp_leave {
    TP_LEAVE_ENDED = 1,     /* his connection is over: `end` says why */
    TP_LEAVE_MOVED = 2,     /* he is where tp_backend_move() sent him */
    TP_LEAVE_GATE_LOST = 3, /* his gate is off the bus */
    TP_LEAVE_BUS_LOST = 4,  /* this service is off the bus */
    TP_LEAVE_STOPPED =
        5, /* ... because you stopped it; gates give the players to other peers of it */
    TP_LEAVE_REPLACED = 6 /* the gate has another player in his place: it could not say before */
} tp_leave;

/* "moved". Any thread; never NULL. */
const char *tp_leave_name(tp_leave why);

/* ---- handlers -------------------------------------------------------------------------------- */

/* All of them optional. */
typedef struct tp_backend_handlers {
    size_t size; /* sizeof(tp_backend_handlers) */

    /* A player is here. `info` is valid until the handler returns. To turn him away, kick him. */
    void (*on_player_join)(tp_backend *backend, const tp_player_info *info);

    /* He is not here any more: nothing is delivered from him and his name finds nobody; his index
     * is given to others from here on. `end`: with TP_LEAVE_ENDED why his connection ended, else
     * TP_END_NONE. */
    void (*on_player_leave)(
        tp_backend *backend, const tp_player *player, tp_leave why, tp_end_reason end);

    /* What he says: one message, as his client sent it. */
    void (*on_player_message)(tp_backend *backend, const tp_player *player, tp_packet *packet);

    /* A kick or a move that was asked for did not happen, and he is still here unless he is leaving
     * anyway: TP_ERR_NO_SESSION (the gate says that he is not here: his leave is on its way),
     * TP_ERR_NO_ROUTE (no other peer of that service is there), TP_ERR_FULL (a queue's or the
     * gate's limit: ask again later), TP_ERR_TIMED_OUT (nobody knows), TP_ERR_PEER_LOST (the gate,
     * or the bus, is lost: so is he), TP_ERR_CANCELLED, TP_ERR_UNSUPPORTED, TP_ERR_PROTOCOL,
     * TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY. */
    void (*on_player_stays)(tp_backend *backend, const tp_player *player, tp_err why);

    /* On the bus, and off it, as lanclient's handlers say it. Players join after on_up; all of them
     * have left before on_down. */
    void (*on_up)(tp_backend *backend, tp_peer_id self);
    void (*on_down)(tp_backend *backend, tp_err why);

    /* Everything on the bus that has nothing to do with players, as without a backend: peers that
     * come and go (gates too), messages and requests of peers that are no gates, what came back.
     * Its on_up and on_down are not used, its size may be 0. tp_backend_of(client) finds the
     * backend. */
    tp_lanclient_handlers bus;
} tp_backend_handlers;

/* ---- options --------------------------------------------------------------------------------- */

typedef struct tp_backend_options {
    size_t size;              /* sizeof(tp_backend_options) */
    void *context;            /* yours: tp_backend_context() */
    tp_lanclient_options bus; /* address and service are yours to set; its context is not used */
    const char *gates;    /* the service gates are of: they are believed about players; copied */
    unsigned max_players; /* at once, 1..TP_MAX_SESSIONS; one more is closed with `full` */
    unsigned max_gates;   /* at once, 1..TP_BACKEND_MAX_GATES; the players of one more likewise */
} tp_backend_options;

#define TP_BACKEND_MAX_GATES 256u

/* Fills in: lanclient's defaults, gates "gate", 4,096 players, 16 gates. */
void tp_backend_defaults(tp_backend_options *options);

/* ---- life ------------------------------------------------------------------------------------ */

/* Makes a backend; options, handlers and names are copied, and the memory for all players is taken.
 * TP_ERR_INVALID (the log says which option), TP_ERR_NO_MEMORY. On error *backend is NULL. */
tp_err tp_backend_create(
    const tp_backend_options *options, const tp_backend_handlers *handlers, tp_backend **backend);

/* As tp_lanclient_start(), with its errors. */
tp_err tp_backend_start(tp_backend *backend);

/* As tp_lanclient_stop(): begins to stop and returns at once; any thread, any handler. Gates give
 * the players to other peers of the service, or keep them. Here all of them leave. */
void tp_backend_stop(tp_backend *backend);

/* As tp_lanclient_wait(), with its errors. */
tp_err tp_backend_wait(tp_backend *backend, int timeout_ms);

/* As tp_lanclient_destroy(). NULL is ignored. */
void tp_backend_destroy(tp_backend *backend);

void *tp_backend_context(const tp_backend *backend);

/* The client underneath, for everything else on the bus; the backend owns it. start, stop, wait and
 * destroy are the backend's. */
tp_lanclient *tp_backend_client(const tp_backend *backend);

/* The backend that owns this client: for the handlers in `bus`. */
tp_backend *tp_backend_of(const tp_lanclient *client);

/* ---- sending: any thread, any handler -------------------------------------------------------- */

/*
 * What these have in common. `packet`: its payload is copied, it stays yours and as it is. Errors,
 * after which nothing else happens:
 *
 *     TP_ERR_NO_SESSION     no such player (any more)
 *     TP_ERR_NOT_CONNECTED  not on the bus now, or stopping
 *     TP_ERR_FULL           the bus connection's send queue, max_unconfirmed or max_requests is
 *                           reached
 *     TP_ERR_TOO_LARGE      larger than the bus accepts (1 MiB unless it is configured otherwise,
 *                           less 16 bytes, and 4, and 8 for each player of one gate)
 *     TP_ERR_INVALID        an argument is NULL or out of its range; or the error that the packet
 *                           carries
 *     TP_ERR_NO_MEMORY
 */

/* To one player. */
tp_err tp_backend_send(tp_backend *backend, const tp_player *player, const tp_packet *packet);

/* To many: one message on the bus for each gate that has some of them (for each 8,192 of them).
 * Those who are gone are passed over; one named twice gets it twice. `reached` (or NULL) receives
 * how many players it is on its way to: fewer than `count` if some are gone or if an error is
 * returned. TP_OK if there is nobody. With an error of one gate's message the others' are still
 * sent. */
tp_err tp_backend_send_many(tp_backend *backend, const tp_player *players, size_t count,
    const tp_packet *packet, size_t *reached);

/* To all players of this service's peer. `except` (or NULL) does not get it. As send_many. */
tp_err tp_backend_send_all(
    tp_backend *backend, const tp_player *except, const tp_packet *packet, size_t *reached);

/* Ends his connection after what has been sent to him, with CLOSE `close_code` (0..65,535;
 * proto/frame.h lists those with a meaning, 10 is `kicked`; from 256 on they are yours).
 * on_player_leave follows, or on_player_stays if it could not be done. */
tp_err tp_backend_kick(tp_backend *backend, const tp_player *player, unsigned close_code);

/*
 * Gives him to another peer: to `peer`, or, if that is TP_NO_PEER, to the peer of `service` (which
 * may be your own) that has the fewest players of his gate, other than you. `service` may be NULL
 * if a peer is given. The other side gets his on_player_join with TP_PLAYER_MOVED and the `size`
 * (0..TP_PLAYER_BLOB_MAX) bytes of `blob`, which are copied. Here on_player_leave (TP_LEAVE_MOVED)
 * follows, or on_player_stays if it could not be done. What he says meanwhile, and arrives here
 * after it, is counted as `unknown`: tell his client to hold still if that matters.
 */
tp_err tp_backend_move(tp_backend *backend, const tp_player *player, const char *service,
    tp_peer_id peer, const void *blob, size_t size);

/* ---- looking around: any thread, any handler ------------------------------------------------- */

/* Players now. */
unsigned tp_backend_player_count(const tp_backend *backend);

/* Who he is, without the blob; info->size must be set. False if he is not here. */
bool tp_backend_player_info(tp_backend *backend, const tp_player *player, tp_player_info *info);

/* Since creation. joined - left = players now. */
typedef struct tp_backend_stats {
    size_t size;               /* sizeof(tp_backend_stats), set by the caller */
    uint64_t joined;           /* calls of on_player_join, whether or not there is such a handler */
    uint64_t returned_players; /* ... with TP_PLAYER_RETURNS */
    uint64_t left;             /* calls of on_player_leave, likewise */
    uint64_t refused;          /* players refused: max_players, max_gates */
    uint64_t received;         /* messages given to on_player_message */
    uint64_t unknown;          /* messages of players that had left, or were refused: dropped */
    uint64_t malformed;        /* gates' messages that are none: returned to them */
    uint64_t sent;             /* copies of messages to players handed to the bus */
    uint64_t bus_messages;     /* ... in so many messages */
    uint64_t returned;         /* messages that the bus gave back, others than players' included */
} tp_backend_stats;

void tp_backend_get_stats(const tp_backend *backend, tp_backend_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
