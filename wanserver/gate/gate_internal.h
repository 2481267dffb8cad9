/*
 * What the files of the gate share: its data, its states and its locks.
 *
 * A PLAYER is a session of the server, and has the entry of the session's slot. Its states:
 *
 *     from      to        when
 *     ABSENT    ENTERING  on_join: fewer than max_players play and the waiting room is empty
 *     ABSENT    WAITING   on_join: else, if the waiting room is not full
 *     ABSENT    CLOSING   on_join: else; the player is turned away
 *     WAITING   ENTERING  the player is the first who waits, and fewer than max_players play
 *     ENTERING  AT_PEER   a peer of the player's service is on the bus
 *     ENTERING  KEPT      none is, the gate is off the bus, or no assignment is free
 *     KEPT      AT_PEER   a peer is on the bus again, and an assignment is free
 *     AT_PEER   AT_PEER   a service has moved the player; or the peer is lost, and there is another
 *     AT_PEER   KEPT      the peer is lost, and there is no other
 *     others    CLOSING   the gate closes the player, or the server is ending the session; one who
 *                         is at a peer stays AT_PEER, so that the peer gets a LEAVE with the reason
 *     any       ABSENT    on_leave
 *
 * A player in ENTERING, KEPT or AT_PEER counts against max_players (has_quota), until the gate
 * finds that the session is being ended.
 *
 * An ASSIGNMENT is a player's stay at a peer of a service. On the wire its number is the `visit`.
 * It begins with a JOIN, which is repeated until it is answered, and ends with a LEAVE, repeated
 * likewise, or with the loss of the peer. It outlives the player: the peer may believe that the
 * player is present until it has answered otherwise or has left the bus, and no assignment is freed
 * before that. So a service never keeps a ghost. At most TP__GATE_ASSIGNMENTS exist; a player for
 * whom none is free is kept until one is.
 *
 *     from       to         when
 *     (free)     DUE_JOIN   a player is assigned to the peer
 *     DUE_JOIN   JOINING    JOIN is sent
 *     JOINING    JOINED     the peer has answered DONE: OK
 *     JOINED     DUE_LEAVE  the player leaves
 *     DUE_LEAVE  LEAVING    LEAVE is sent
 *     LEAVING    (free)     the peer has answered
 *     JOINING    DUE_JOIN   JOIN was not delivered, or not answered in time: then it is uncertain
 *     LEAVING    DUE_LEAVE  LEAVE was not delivered, or not answered in time
 *     JOINING    (free)     the peer has answered DONE: REFUSED
 *     JOINING    DUE_LEAVE  the player has left meanwhile, and a JOIN has or may have arrived
 *     JOINING    (free)     the player has left meanwhile, and no JOIN can have arrived
 *     DUE_JOIN   DUE_LEAVE  the player leaves, and the assignment is uncertain
 *     DUE_JOIN   (free)     the player leaves, and it is not
 *     any        (free)     the peer is lost or incompatible; in JOINING and LEAVING only when
 *                           lanclient has answered, which has a pointer to it until then
 *
 * To each peer at most TP__GATE_WINDOW requests are under way. The other assignments that have a
 * request to send are in the peer's queue, in order. A request that the bus cannot take stays in
 * the queue and is tried again.
 *
 * LOCKS. One mutex for joining and leaving: it is taken for each join, leave, kick, move, change of
 * peers and answer of a service; for a message only if its player has no route and may be about to
 * get one. Messages need the player's session, which is compared with the one in a service's
 * message, and two more words of the entry, written under the mutex and read without it:
 *
 *     source  the peer whose messages reach the player. Set before JOIN is sent, so that the
 *             service's first message finds it.
 *     route   the peer that the player's messages go to. Set after JOIN is in lanclient's queue, so
 *             that the player's messages follow it.
 *
 * A slot that gets another session between check and send does no harm: the server compares the
 * whole session id again. Under the mutex only functions of the server and of lanclient and
 * options.identity are called; none of them calls a handler.
 */
#ifndef TWINPORT_WANSERVER_GATE_GATE_INTERNAL_H
#define TWINPORT_WANSERVER_GATE_GATE_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/base/counter.h"
#include "core/base/lifecycle.h"
#include "core/base/list.h"
#include "core/memory/slot_pages.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "proto/frame.h"
#include "proto/gate.h"
#include "wanserver/gate/gate_api.h"

#define TP__GATE_WINDOW    256u /* requests under way to one peer */
#define TP__GATE_RETRY_MS  50u  /* from a request that was not delivered to the next attempt */
#define TP__GATE_TICK_MS   50u
#define TP__GATE_SEARCH_MS 1000u /* tp__gate_find_ending() */
/* One for each player at a peer, as many again whose LEAVE is not answered yet, and one for each
 * session that is being ended. */
#define TP__GATE_ASSIGNMENTS(options)                                                              \
    ((size_t)(options)->max_players * 2 +                                                          \
        TP_SERVER_ENDING((size_t)(options)->max_players + (options)->max_waiting))
#define TP__GATE_WORKERS_MAX 64u /* a server has no more */
#ifndef TP__GATE_POSITIONS_PER_TICK
#define TP__GATE_POSITIONS_PER_TICK 1024u /* the fuzzer has fewer */
#endif

typedef enum tp__gate_state {
    TP__GATE_ABSENT, /* the entry belongs to no session */
    TP__GATE_WAITING,
    TP__GATE_ENTERING, /* only within tp__gate_admit_player(), under the mutex: the player may
                          send already, and has no route yet */
    TP__GATE_KEPT,
    TP__GATE_AT_PEER,
    TP__GATE_CLOSING
} tp__gate_state;

struct tp__gate_service;
struct tp__gate_assignment;

typedef struct tp__gate_player {
    _Atomic tp_session_id session;
    _Atomic tp_peer_id source;
    _Atomic tp_peer_id route;
    _Atomic uint32_t state; /* tp__gate_state; written under the mutex */

    /* Everything below: under the mutex. */
    bool has_quota;         /* counts against max_players; false once the session is being ended */
    uint16_t flags;         /* of the next JOIN: TP_GATE_RETURN, TP_GATE_MOVED */
    uint32_t position_sent; /* the position in the waiting room that was sent last */
    uint64_t queue_number;  /* WAITING: rises from the head of the queue to its tail */
    uint64_t kept_since_ms; /* KEPT; on the link's clock (lanclient/client/link_clock.h) */
    struct tp__gate_assignment *assignment; /* AT_PEER; else NULL */
    struct tp__gate_service *service;
    tp__link link; /* in the waiting room, or among the service's kept players */
    uint8_t *blob; /* what the player's last move handed on */
    uint16_t blob_size;
    tp_address address;
} tp__gate_player;

/* One for each slot of the server before the gate. */
_Static_assert(sizeof(void *) != 8 || sizeof(tp__gate_player) <= 120, "a player has grown");

/* The player of a link; NULL: of none. */
static inline tp__gate_player *tp__gate_player_of(const tp__link *link) {
    return link ? TP_CONTAINER_OF(link, tp__gate_player, link) : NULL;
}

typedef enum tp__assignment_state {
    TP__ASSIGNMENT_DUE_JOIN,
    TP__ASSIGNMENT_JOINING,
    TP__ASSIGNMENT_JOINED,
    TP__ASSIGNMENT_DUE_LEAVE,
    TP__ASSIGNMENT_LEAVING
} tp__assignment_state;

/* Its request is in flight exactly in JOINING and LEAVING: then lanclient has a pointer to it. */
typedef struct tp__gate_assignment {
    tp__gate *gate;
    struct tp__gate_peer *peer; /* NULL: lost; only the answer of lanclient is awaited */
    tp__gate_player *player;    /* NULL: the player has left */
    tp_session_id session;
    uint32_t number; /* on the wire: visit */
    tp__assignment_state state;
    bool join_sent; /* a JOIN has been handed to the bus: the assignment is in the statistics */
    bool uncertain; /* a JOIN may have arrived although it is to be sent again */
    uint16_t why;   /* of LEAVE */
    uint16_t end;
    tp__link link;  /* in the peer's list */
    tp__link queue; /* in the peer's queue, or among the free ones */
} tp__gate_assignment;

/* More than two for each player: TP__GATE_ASSIGNMENTS. */
_Static_assert(sizeof(void *) != 8 || sizeof(tp__gate_assignment) <= 80, "an assignment has grown");

/* The assignment of a link in a peer's list, and of one in a queue; NULL: of none. */
static inline tp__gate_assignment *tp__assignment_of(const tp__link *link) {
    return link ? TP_CONTAINER_OF(link, tp__gate_assignment, link) : NULL;
}

static inline tp__gate_assignment *tp__assignment_in_queue(const tp__link *queue) {
    return queue ? TP_CONTAINER_OF(queue, tp__gate_assignment, queue) : NULL;
}

/* A request of it waits in its peer's queue. */
static inline bool tp__assignment_is_due(const tp__gate_assignment *assignment) {
    return assignment->state == TP__ASSIGNMENT_DUE_JOIN ||
           assignment->state == TP__ASSIGNMENT_DUE_LEAVE;
}

/* Its request is with lanclient, which has a pointer to it. */
static inline bool tp__assignment_is_in_flight(const tp__gate_assignment *assignment) {
    return assignment->state == TP__ASSIGNMENT_JOINING ||
           assignment->state == TP__ASSIGNMENT_LEAVING;
}

typedef struct tp__gate_peer {
    tp_peer_id id;
    struct tp__gate_service *service;
    struct tp__gate_peer *next;
    unsigned players; /* assignments that have a player */
    unsigned in_flight;
    bool incompatible;    /* it does not answer JOIN as a service does: it gets no players */
    uint64_t retry_at_ms; /* no request is sent before; 0: at once */
    tp__list assignments;
    tp__list queue; /* of the assignments: DUE_JOIN and DUE_LEAVE */
} tp__gate_peer;

typedef struct tp__gate_service {
    char name[TP_NAME_MAX + 1];
    tp__gate_peer *peers;
    tp__list kept; /* ordered by kept_since_ms */
} tp__gate_service;

/* The queue of the players before a full gate, and the round that sends them their positions. */
typedef struct tp__gate_waiting_room {
    tp__list list;
    uint64_t last_number;
    tp__gate_player *cursor; /* the next player of the round; NULL: no round is under way */
    uint32_t next_position;  /* the cursor's */
    uint64_t next_round_ms;  /* no round begins before */
    bool changed;            /* positions have changed, or one was not sent, since the last round
                                began */
} tp__gate_waiting_room;

struct tp__gate {
    tp__gate_options options;
    char service_name[TP_NAME_MAX + 1];
    tp_lanclient *client;
    tp_server *server;      /* from start on */
    tp__slot_pages entries; /* of players */

    tp_mutex mutex;
    tp_condition assignment_freed;
    tp__lifecycle
        lifecycle; /* its last step is the whole stop: of the server, the services' answers, which
                    are awaited until drain_by_ms, and lanclient */
    bool server_stopped;
    bool client_stopping;
    bool tick_scheduled;
    unsigned players; /* with has_quota */
    unsigned kept;
    uint64_t next_search_ms; /* tp__gate_find_ending() */
    tp__gate_waiting_room waiting_room;
    tp__gate_service *services; /* max_services of them; number 0 is the players' first service */
    unsigned service_count;
    tp__gate_assignment *assignments; /* TP__GATE_ASSIGNMENTS of them */
    tp__list free_assignments;
    unsigned assignments_used;
    unsigned assignments_announced; /* ... of which a JOIN has been handed to the bus */
    uint32_t last_assignment_number;
    tp__gate_stats stats; /* of joining and leaving; those of messages are below */

#define TP__GATE_PARTS(name, count) _Atomic uint64_t name[count];
    TP__GATE_STATS(TP__STATS_NONE, TP__STATS_NONE, TP__STATS_ATOMIC, TP__GATE_PARTS)
#undef TP__GATE_PARTS
};

static inline void tp__gate_set_state(tp__gate_player *player, tp__gate_state state) {
    atomic_store_explicit(&player->state, state, memory_order_relaxed);
}

static inline tp__gate_state tp__gate_state_of(const tp__gate_player *player) {
    return (tp__gate_state)atomic_load_explicit(&player->state, memory_order_relaxed);
}

static inline tp_session_id tp__gate_session_of(const tp__gate_player *player) {
    return atomic_load_explicit(&player->session, memory_order_relaxed);
}

/* ---- players.c ------------------------------------------------------------------------------- */

/* The entry of this session's slot if the session has it, or NULL. Any thread, no lock. */
static inline tp__gate_player *tp__gate_find(tp__gate *gate, tp_session_id session) {
    tp__gate_player *player =
        tp__slot_find(&gate->entries, tp_session_slot(session), sizeof *player);
    bool same = player && atomic_load_explicit(&player->session, memory_order_acquire) == session;
    return same ? player : NULL;
}

/* The server's handlers. */
void tp__gate_on_join(tp_server *server, tp_session_id session);
void tp__gate_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason);

/* Gives the player quota, sends position 0 if there is a waiting room, and assigns a peer. The
 * caller has checked that fewer than max_players play. Under the mutex. */
void tp__gate_admit_player(tp__gate *gate, tp__gate_player *player);
/* Closes the session after what has been sent to the player, who is in no list and has no
 * assignment. Under the mutex. */
void tp__gate_close_player(tp__gate *gate, tp__gate_player *player, uint16_t close_code);
/* Returns the player's quota, if there is any, before on_leave: the session is being ended. The
 * next tick admits players who wait. Under the mutex. */
void tp__gate_return_quota(tp__gate *gate, tp__gate_player *player);
/* Finds players whose session the server is ending for a reason of its own, and returns their
 * quota: their on_leave comes only when they have hung up, after drain_timeout at the latest.
 * `coming`: sessions of the server that the gate has not counted yet. Under the mutex. */
void tp__gate_find_ending(tp__gate *gate, unsigned coming);

/* ---- waiting_room.c: under the mutex --------------------------------------------------------- */

/* Appends the player to the queue and sends the position. */
void tp__gate_waiting_room_add(tp__gate *gate, tp__gate_player *player);
/* Removes the player, whether admitted or leaving. */
void tp__gate_waiting_room_remove(tp__gate *gate, tp__gate_player *player);
/* Admits players from the head of the queue while fewer than max_players play. */
void tp__gate_admit_waiting(tp__gate *gate);
/* The tick's part: admits players for those whose sessions are being ended without on_leave yet.
 * True: players still wait. */
bool tp__gate_waiting_room_check(tp__gate *gate);
/* Sends a player the position; 0: admitted. False: there is no memory, or the session's send queue
 * does not take it. */
bool tp__gate_send_position(tp__gate *gate, tp__gate_player *player, uint32_t position);
/* Sends a part of a round, TP__GATE_POSITIONS_PER_TICK positions. True: the round is not over, or
 * another one is due. */
bool tp__gate_send_positions(tp__gate *gate, uint64_t now_ms);

/* ---- gate_services.c: services, their peers, kept players; under the mutex ------------------- */

/* The service of this name, or NULL. */
tp__gate_service *tp__gate_find_service(tp__gate *gate, const char *name, size_t size);
/* The same, made if it is new. NULL: max_services exist, and each has peers or kept players. */
tp__gate_service *tp__gate_open_service(tp__gate *gate, const char *name, size_t size);
/* Adds all peers of the service that lanclient has in its list. */
void tp__gate_add_peers(tp__gate *gate, tp__gate_service *service);
/* The peer of this id, or NULL. */
tp__gate_peer *tp__gate_find_peer(const tp__gate *gate, tp_peer_id id);
/* The peer with the fewest players, other than `except` and not incompatible; NULL: none. */
tp__gate_peer *tp__gate_choose_peer(const tp__gate_service *service, const tp__gate_peer *except);

/* Assigns the player to a peer of the player's service; if that is not possible, keeps the player,
 * or, beyond keep_players, closes the session. */
void tp__gate_assign(tp__gate *gate, tp__gate_player *player);
/* Removes the player from the service's kept players. */
void tp__gate_remove_kept(tp__gate *gate, tp__gate_player *player);
/* The tick's part: assigns kept players to peers, and closes those kept for keep_ms. True: some are
 * still kept. */
bool tp__gate_check_kept(tp__gate *gate, uint64_t link_now_ms);
/* Ends all assignments of the peer, and assigns their players anew. */
void tp__gate_reassign_players(tp__gate *gate, tp__gate_peer *peer);

/* lanclient's handlers; without the mutex. */
void tp__gate_on_up(tp_lanclient *client, tp_peer_id self);
void tp__gate_on_down(tp_lanclient *client, tp_err why);
void tp__gate_on_peer_up(tp_lanclient *client, const tp_peer *peer);
void tp__gate_on_peer_down(tp_lanclient *client, const tp_peer *peer);

/* ---- assignments.c: under the mutex ---------------------------------------------------------- */

/* Assigns the player, whose on_leave has not come, to the peer. False: no assignment is free. */
bool tp__gate_begin_assignment(tp__gate *gate, tp__gate_player *player, tp__gate_peer *peer);
/* Ends the player's assignment: the peer gets a LEAVE with `why` and `end`, if it may have had a
 * JOIN. */
void tp__gate_end_assignment(tp__gate *gate, tp__gate_player *player, uint16_t why, uint16_t end);
/* Ends an assignment whose peer is lost or incompatible. Returns its player, or NULL. */
tp__gate_player *tp__gate_lose_assignment(tp__gate *gate, tp__gate_assignment *assignment);
/* Sends the requests in the peer's queue, as far as window and bus take them. */
void tp__gate_send_due(tp__gate *gate, tp__gate_peer *peer);
/* The same for all peers. True: some requests are in a queue or in flight. */
bool tp__gate_send_all_due(tp__gate *gate);

/* ---- messages.c ------------------------------------------------------------------------------ */

/* The server's and lanclient's handlers; without the mutex. */
void tp__gate_on_recv(tp_server *server, tp_session_id session, tp_packet *packet);
void tp__gate_on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);
void tp__gate_on_returned(tp_lanclient *client, const tp_returned *returned);
/* Counts the message or request in hand, which is not one of a service, and returns it to its
 * sender. */
void tp__gate_on_malformed(tp__gate *gate, const tp_delivery *from);

/* ---- gate_requests.c: kick and move ---------------------------------------------------------- */

/* lanclient's handler; without the mutex. */
void tp__gate_on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);

/* ---- gate.c ---------------------------------------------------------------------------------- */

/* Schedules a tick, unless one is. Under the mutex, and only while the server exists: from its
 * handlers and tasks, from the gate's start, and for a player whose on_leave has not come. An
 * answer of a service may come after the server has been destroyed. */
void tp__gate_schedule_tick(tp__gate *gate);

/* ---- gate_check.c ---------------------------------------------------------------------------- */

/* Walks over everything that the gate has. NULL, or the text of an invariant that does not hold:
 * see core/base/invariant.h. Under the mutex. */
const char *tp__gate_check(const tp__gate *gate);

#endif
