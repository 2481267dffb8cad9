/*
 * backend: connects a game service to its players. The players come through gates (wanserver) over
 * the bus; a service needs to know neither the bus protocol nor the gate protocol.
 *
 *     #include <twinport/backend.h>
 *
 *     static void on_message(tp_backend *backend, const tp_player *player, tp_packet *packet) {
 *         tp_backend_send(backend, player, packet); // echo: back to the player
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
 *         ...                  // gates find the service by its name, and players join
 *         tp_backend_stop(backend);
 *         tp_backend_wait(backend, -1);
 *         tp_backend_destroy(backend);
 *     }
 *
 * PLAYERS. A tp_player is the handle of one player, from on_player_join to on_player_leave. It may
 * be copied; compare handles with tp_player_same(). No two players ever have the same handle.
 * `index` is 0..max_players-1 and belongs to one player at a time: use it for arrays of your own. A
 * handle whose player has left does no harm: calls return TP_ERR_NO_SESSION.
 *
 *     on_player_join -> on_player_message, any number -> on_player_leave
 *
 * For each player on_player_join and on_player_leave are called exactly once, in this order, and
 * messages only in between. If a gate or the bus is lost, its players leave (TP_LEAVE_GATE_LOST,
 * TP_LEAVE_BUS_LOST). If the connection is restored while the gate has kept the players, they join
 * again, with new handles and the flag TP_PLAYER_RETURNS.
 *
 * HANDLERS run one after another, on the worker threads of the backend's lanclient, never inside a
 * call of the application, and never with a lock held. Every function of this header may be called
 * from every handler, except tp_backend_wait() and tp_backend_destroy(). A handler that blocks
 * delays all events behind it. (on_player_stays, and answers to requests of the application, may
 * run beside other handlers when they time out, if bus.workers > 1.)
 *
 * PACKETS that are sent to players are copied into messages of the bus: the caller keeps them,
 * unsealed, and may send them again. The packet given to on_player_message is valid until the
 * handler returns; retain it to keep it.
 *
 * LOST MESSAGES. A call that returns TP_OK has handed the message to the bus. A message that the
 * bus then returns (a gate's queue is full, a gate is lost) is counted (`returned`) and reported to
 * handlers.bus.on_returned. A message that a gate cannot deliver to a player (the player has left,
 * or the player's queue is full) is counted in the gate's statistics. Messages to one player arrive
 * in the order of the calls of one thread.
 *
 * LOCKS. Receiving, tp_backend_send() and tp_backend_send_many() take no lock but lanclient's own.
 * tp_backend_send_all() and tp_backend_player_info() take the backend's lock, for the time of
 * copying a list of numbers or a struct.
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

/* A player's handle: 16 bytes without padding, so equal handles are equal bytes. All zero: no
 * player. */
typedef struct tp_player {
    uint64_t session; /* the session at the gate */
    tp_peer_id gate;  /* the gate's id on the bus */
    uint32_t index;   /* 0..max_players-1, at this backend */
} tp_player;

static inline bool tp_player_same(const tp_player *a, const tp_player *b) {
    return a->session == b->session && a->gate == b->gate && a->index == b->index;
}

#define TP_PLAYER_USER_DATA 48u
#define TP_PLAYER_BLOB_MAX  1024u /* maximum size of the blob of tp_backend_move() */

enum {                       /* tp_player_info.flags */
    TP_PLAYER_RETURNS = 1,   /* he was at this service before, and its peer or the bus was lost */
    TP_PLAYER_MOVED = 2,     /* he comes from another peer, by tp_backend_move() */
    TP_PLAYER_IDENTIFIED = 4 /* account, account_flags and user_data are from his token */
};

/* Information about a player. */
typedef struct tp_player_info {
    size_t size; /* sizeof(tp_player_info) */
    tp_player player;
    uint32_t flags;         /* TP_PLAYER_... flags */
    uint32_t account_flags; /* as the login service wrote them */
    uint64_t account;       /* 0 unless TP_PLAYER_IDENTIFIED; only then it is authenticated */
    uint8_t user_data[TP_PLAYER_USER_DATA]; /* as the login service wrote it */
    tp_address address;                     /* his remote address; its scope is 0 */
    /* The blob of his last move, however long ago; with TP_PLAYER_RETURNS it is passed again. NULL
     * if there is none. Only in on_player_join, and valid until that handler returns. */
    const uint8_t *blob;
    size_t blob_size; /* 0..TP_PLAYER_BLOB_MAX */
} tp_player_info;

/* Why a player leaves. */
typedef enum tp_leave {
    TP_LEAVE_ENDED = 1,     /* his connection ended: `end` has the reason */
    TP_LEAVE_MOVED = 2,     /* he was moved by tp_backend_move() */
    TP_LEAVE_GATE_LOST = 3, /* his gate was lost */
    TP_LEAVE_BUS_LOST = 4,  /* the connection to the bus was lost */
    /* This backend was stopped; gates assign its players to other peers of the service. */
    TP_LEAVE_STOPPED = 5,
    TP_LEAVE_REPLACED = 6 /* the gate reports another player in his slot; his LEAVE was late */
} tp_leave;

/* The reason's name, such as "moved"; "unknown" for any other value. Any thread; never NULL. */
const char *tp_leave_name(tp_leave why);

/* ---- handlers -------------------------------------------------------------------------------- */

/* All handlers are optional (NULL). */
typedef struct tp_backend_handlers {
    size_t size; /* sizeof(tp_backend_handlers) */

    /* A player joined. `info` is valid until the handler returns. To reject him, kick him. */
    void (*on_player_join)(tp_backend *backend, const tp_player_info *info);

    /* A player left: no message of his follows and his handle is invalid; his index may be given to
     * another player from here on. `end`: with TP_LEAVE_ENDED the reason why his connection ended,
     * otherwise TP_END_NONE. */
    void (*on_player_leave)(
        tp_backend *backend, const tp_player *player, tp_leave why, tp_end_reason end);

    /* A message of a player, as his client sent it. */
    void (*on_player_message)(tp_backend *backend, const tp_player *player, tp_packet *packet);

    /*
     * A kick or a move failed. The player is still present, unless he is leaving anyway. `why`:
     *
     *     TP_ERR_NO_SESSION    the gate has no such player: his leave follows
     *     TP_ERR_NO_ROUTE      there is no other peer of that service
     *     TP_ERR_FULL          a queue, or a limit of the gate, is full: try again later
     *     TP_ERR_TIMED_OUT     the outcome is unknown
     *     TP_ERR_PEER_LOST     the gate, or the bus, is lost, and the player with it
     *     TP_ERR_CANCELLED, TP_ERR_UNSUPPORTED, TP_ERR_PROTOCOL, TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY
     */
    void (*on_player_stays)(tp_backend *backend, const tp_player *player, tp_err why);

    /* The backend is on the bus, or off it, as in tp_lanclient_handlers. Players join after on_up;
     * all of them have left before on_down. */
    void (*on_up)(tp_backend *backend, tp_peer_id self);
    void (*on_down)(tp_backend *backend, tp_err why);

    /* Handlers for everything on the bus that does not concern players, as without a backend: peers
     * that join and leave (gates too), messages and requests of peers that are not gates, returned
     * messages. on_up and on_down in it are not used; its size may be 0 (no handlers).
     * tp_backend_of(client) returns the backend. */
    tp_lanclient_handlers bus;
} tp_backend_handlers;

/* ---- options --------------------------------------------------------------------------------- */

typedef struct tp_backend_options {
    size_t size;   /* sizeof(tp_backend_options) */
    void *context; /* of the application: tp_backend_context() */
    /* Options of the connection to the bus. `address` and `service` must be set; `context` is not
     * used. */
    tp_lanclient_options bus;
    /* Name of the gates' service; copied. Peers of this service are trusted to report players. */
    const char *gates;
    unsigned max_players; /* present players, 1..TP_MAX_SESSIONS; beyond: CLOSE `full` */
    unsigned max_gates;   /* gates, 1..TP_BACKEND_MAX_GATES; players of others: likewise */
} tp_backend_options;

#define TP_BACKEND_MAX_GATES 256u

/* Fills in the defaults: lanclient's, gates "gate", 4,096 players, 16 gates. Any thread. */
void tp_backend_defaults(tp_backend_options *options);

/* ---- creation, start and stop ---------------------------------------------------------------- */

/* Creates a backend, which is not started. Options, handlers and names are copied; the memory for
 * all players is allocated. TP_ERR_INVALID (the log names the option), TP_ERR_NO_MEMORY. On error
 * *backend is NULL. The caller destroys the backend with tp_backend_destroy(). */
tp_err tp_backend_create(
    const tp_backend_options *options, const tp_backend_handlers *handlers, tp_backend **backend);

/* As tp_lanclient_start(), with its errors. */
tp_err tp_backend_start(tp_backend *backend);

/* As tp_lanclient_stop(): begins to stop and returns at once. Any thread, any handler. All players
 * leave here; gates assign them to other peers of the service, or keep them. */
void tp_backend_stop(tp_backend *backend);

/* As tp_lanclient_wait(), with its errors. */
tp_err tp_backend_wait(tp_backend *backend, int timeout_ms);

/* As tp_lanclient_destroy(). NULL is ignored. */
void tp_backend_destroy(tp_backend *backend);

void *tp_backend_context(const tp_backend *backend);

/* The backend's client, for everything else on the bus. The backend owns it: start, stop, wait for
 * and destroy the backend, not the client. */
tp_lanclient *tp_backend_client(const tp_backend *backend);

/* The backend that owns this client: for the handlers in `bus`. */
tp_backend *tp_backend_of(const tp_lanclient *client);

/* ---- sending: any thread, any handler -------------------------------------------------------- */

/*
 * Common to all calls below. `packet`: its payload is copied; the caller keeps the packet,
 * unchanged. Errors, after which nothing else happens:
 *
 *     TP_ERR_NO_SESSION     no such player (any more)
 *     TP_ERR_NOT_CONNECTED  the backend is not on the bus, or is stopping
 *     TP_ERR_FULL           the send queue to the bus, max_unconfirmed or max_requests is full
 *     TP_ERR_TOO_LARGE      larger than the bus accepts (1 MiB unless configured otherwise, less 16
 *                           bytes, and 4, and 8 for each player of one gate)
 *     TP_ERR_INVALID        an argument is NULL or out of range
 *     TP_ERR_NO_MEMORY
 *     ...                   the error that the packet carries, if any
 */

/* Sends to one player. */
tp_err tp_backend_send(tp_backend *backend, const tp_player *player, const tp_packet *packet);

/* Sends to many players: one message on the bus for each gate that has some of them (for each 8,192
 * of them). Handles whose players have left are skipped; a handle that occurs twice gets the packet
 * twice. If one gate's message fails, the messages of the other gates are still sent, and the first
 * error is returned. `reached` (or NULL) receives the number of players to whom the packet was
 * sent: fewer than `count` if some have left or an error is returned. TP_OK if there is no
 * player. */
tp_err tp_backend_send_many(tp_backend *backend, const tp_player *players, size_t count,
    const tp_packet *packet, size_t *reached);

/* Sends to all players of this backend but `except` (or NULL). `reached` and errors as for
 * tp_backend_send_many(). */
tp_err tp_backend_send_all(
    tp_backend *backend, const tp_player *except, const tp_packet *packet, size_t *reached);

/* Ends a player's connection after the messages already sent to him, with CLOSE `close_code`
 * (0..65,535; proto/frame.h lists those with a meaning, 10 is `kicked`; codes from 256 are free for
 * applications). If it succeeds, on_player_leave follows; if not, on_player_stays. */
tp_err tp_backend_kick(tp_backend *backend, const tp_player *player, unsigned close_code);

/*
 * Moves a player to another peer: to `peer`, or, if that is TP_NO_PEER, to the peer of `service`
 * (which may be the caller's own) that has the fewest players of his gate, other than the caller.
 * `service` may be NULL if `peer` is given.
 *
 * At the other peer on_player_join is called with TP_PLAYER_MOVED and the `size`
 * (0..TP_PLAYER_BLOB_MAX) bytes of `blob`, which are copied. Here, on_player_leave (TP_LEAVE_MOVED)
 * follows, or on_player_stays if the move fails. Messages that he sends meanwhile and that arrive
 * here after his leave are counted as `unknown`: if that matters, his client must pause.
 */
tp_err tp_backend_move(tp_backend *backend, const tp_player *player, const char *service,
    tp_peer_id peer, const void *blob, size_t size);

/* ---- queries: any thread, any handler -------------------------------------------------------- */

/* The number of present players. */
unsigned tp_backend_player_count(const tp_backend *backend);

/* Copies a player's information, without the blob; info->size must be set. False if he has left. */
bool tp_backend_player_info(tp_backend *backend, const tp_player *player, tp_player_info *info);

/* Counters since creation. joined - left = present players. */
typedef struct tp_backend_stats {
    size_t size;               /* sizeof(tp_backend_stats), set by the caller */
    uint64_t joined;           /* players that joined (on_player_join) */
    uint64_t returned_players; /* players that joined with TP_PLAYER_RETURNS */
    uint64_t left;             /* players that left (on_player_leave) */
    uint64_t refused;          /* refused players: max_players, max_gates, no memory */
    uint64_t received;         /* messages of players (on_player_message) */
    uint64_t unknown;          /* dropped messages of players that had left or were refused */
    uint64_t malformed;        /* malformed messages of gates: returned to them */
    uint64_t sent;             /* copies of messages to players, handed to the bus */
    uint64_t bus_messages;     /* messages on the bus that carried these copies */
    uint64_t returned;         /* messages returned by the bus, including those not for players */
} tp_backend_stats;

/* Fills in the counters; stats->size must be set. Any thread. */
void tp_backend_get_stats(const tp_backend *backend, tp_backend_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
