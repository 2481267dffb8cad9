/*
 * The gate's inside: what its files share.
 *
 * A PLAYER is a session of the server: he has the entry of its slot. He is in one of these states:
 *
 *     on_join --> WAITING --admitted--> KEPT <--peer lost, none there-- AT_PEER
 *        \___________________________/    \_____a peer of his service_____/
 *     and CLOSING from any of them: the gate has closed him, on_leave follows.
 *
 * A VISIT is a player's stay with a peer of a service. It begins with a JOIN that is said again
 * until it is answered, and ends with a LEAVE likewise, or with the peer. It outlives the player:
 * as long as there is a visit the peer may believe that he is there, and no visit is let go of
 * before the peer has said that it knows better, or is gone. So a service never keeps a ghost. At
 * most TP__GATE_VISITS exist; he for whom there is none left stays kept until there is.
 *
 *     DUE_JOIN --said--> JOINING --answered--> JOINED
 *        ^_____not delivered____|                 |
 *                               v                 v   the player has left
 *              DUE_LEAVE --said--> LEAVING --answered--> (free)
 *
 * To each peer at most TP__GATE_WINDOW of these requests are under way; the other visits that have
 * something to say stand in its queue, in order. What the bus has no room for stays in the queue
 * and is tried again.
 *
 * LOCKS. One mutex for everything that comes and goes: it is taken at each join, leave, kick, move,
 * peer that comes or goes, and answer of a service; not for a message, unless its player has no
 * route and may be about to get one. Messages need two words of the player's entry, written under
 * the mutex and read without it:
 *
 *     owner  the peer that may talk to the player. Set before JOIN is sent: the service's greeting
 *            finds it.
 *     route  the peer that the player talks to. Set after JOIN is in lanclient's queue, so that the
 *            player's messages follow it.
 *
 * and his session, which is checked against the one in a service's message. A slot that changes
 * hands between check and send does no harm: the server looks at the whole id again. Under the
 * mutex nothing is called but the server and lanclient, neither of which calls handlers.
 */
#ifndef TWINPORT_WANSERVER_GATE_GATE_INTERNAL_H
#define TWINPORT_WANSERVER_GATE_GATE_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "os/compiler.h"
#include "os/thread.h"
#include "proto/frame.h"
#include "proto/gate.h"
#include "wanserver/gate/gate_api.h"

#define TP__GATE_PAGE     1024u
#define TP__GATE_PAGES    (TP_MAX_SESSIONS / TP__GATE_PAGE)
#define TP__GATE_WINDOW   256u /* requests under way to one peer */
#define TP__GATE_RETRY_MS 50u  /* after the bus had no room */
#define TP__GATE_TICK_MS  50u
#define TP__GATE_LOOK_MS  1000u
/* Of those who play, as many that are being left, and of those who are being ended. */
#define TP__GATE_VISITS(options)                                                                   \
    ((size_t)(options)->max_players * 2 +                                                          \
        TP_SERVER_ENDING((size_t)(options)->max_players + (options)->max_waiting))
#define TP__GATE_WORKERS_MAX 64u /* a server has no more */
#ifndef TP__GATE_TELLS
#define TP__GATE_TELLS 1024u /* places told in one tick; the fuzzer's are fewer */
#endif

typedef enum tp__gate_state {
    TP__GATE_ABSENT, /* the entry is nobody's */
    TP__GATE_WAITING,
    TP__GATE_ENTERING, /* within tp__gate_play(), under the mutex: may speak, has no route yet */
    TP__GATE_KEPT,
    TP__GATE_AT_PEER,
    TP__GATE_CLOSING
} tp__gate_state;

struct tp__gate_service;
struct tp__gate_visit;

typedef struct tp__gate_player {
    _Atomic tp_session_id session;
    _Atomic tp_peer_id owner;
    _Atomic tp_peer_id route;
    _Atomic uint32_t state; /* tp__gate_state; written under the mutex */

    /* The mutex's, all of it. */
    bool playing;      /* he counts as a player: not once he is being ended */
    uint16_t flags;    /* of his next JOIN: TP_GATE_RETURN, TP_GATE_MOVED */
    uint32_t told;     /* the place in the waiting room he was told last */
    uint64_t number;   /* WAITING: rises along the queue */
    uint64_t since_ms; /* KEPT; on the link's clock (lanclient/client/link_clock.h) */
    struct tp__gate_visit *visit;
    struct tp__gate_service *service;
    struct tp__gate_player *earlier; /* in the waiting room, or among the service's kept ones */
    struct tp__gate_player *later;
    uint8_t *blob; /* what his last move handed on */
    uint16_t blob_size;
    tp_address address;
} tp__gate_player;

typedef struct tp__gate_list {
    tp__gate_player *first;
    tp__gate_player *last;
    unsigned count;
} tp__gate_list;

typedef enum tp__visit_state {
    TP__VISIT_DUE_JOIN,
    TP__VISIT_JOINING,
    TP__VISIT_JOINED,
    TP__VISIT_DUE_LEAVE,
    TP__VISIT_LEAVING
} tp__visit_state;

/* in_flight exactly in JOINING and LEAVING: then lanclient holds a pointer to it. */
typedef struct tp__gate_visit {
    tp__gate *gate;
    struct tp__gate_peer *peer; /* NULL: it is gone; only the answer is awaited */
    tp__gate_player *player;    /* NULL: he has left */
    tp_session_id session;
    uint32_t number;
    tp__visit_state state;
    bool said;     /* a JOIN has been handed to the bus: the visit is in the account */
    bool doubtful; /* ... and may have arrived although it is said again */
    uint16_t why;  /* of LEAVE */
    uint16_t end;
    struct tp__gate_visit *earlier; /* of the peer's */
    struct tp__gate_visit *later;
    struct tp__gate_visit *previous; /* in the peer's queue */
    struct tp__gate_visit *next;     /* likewise; or among the free ones */
} tp__gate_visit;

typedef struct tp__gate_peer {
    tp_peer_id id;
    struct tp__gate_service *service;
    struct tp__gate_peer *next;
    unsigned players; /* visits that have a player */
    unsigned in_flight;
    bool deaf;         /* it does not speak as a service should: it gets no players */
    uint64_t again_ms; /* nothing is said before */
    tp__gate_visit *visits;
    tp__gate_visit *queue_first; /* DUE_JOIN and DUE_LEAVE */
    tp__gate_visit *queue_last;
} tp__gate_peer;

typedef struct tp__gate_service {
    char name[TP_NAME_MAX + 1];
    tp__gate_peer *peers;
    tp__gate_list kept; /* by since_ms */
} tp__gate_service;

/* The players who wait for a place, and the round in which they are told theirs. */
typedef struct tp__gate_room {
    tp__gate_list list;
    uint64_t last_number;
    tp__gate_player *next; /* the round's next one; NULL: no round */
    uint32_t next_place;   /* ... and his place */
    uint64_t again_ms;     /* no round begins before */
    bool moved;            /* since the last round began */
} tp__gate_room;

struct tp__gate {
    tp__gate_options options;
    char service_name[TP_NAME_MAX + 1];
    tp_lanclient *client;
    tp_server *server;                                /* from start on */
    _Atomic(tp__gate_player *) pages[TP__GATE_PAGES]; /* made when first used */

    tp_mutex mutex;
    tp_condition changed; /* a visit has ended */
    bool started;
    bool stopping;
    bool server_stopped;
    bool client_told;
    uint64_t drain_by_ms; /* the services' word is not waited for any more */
    uint64_t end_by_ms;   /* all of the stop */
    bool armed;           /* a tick is on its way */
    unsigned players;     /* `playing` */
    unsigned kept;
    uint64_t look_again_ms; /* tp__gate_find_ending: not before, unless it is sure to find one */
    tp__gate_room room;
    tp__gate_service *services; /* max_services of them; number 0 is the players' first */
    unsigned service_count;
    tp__gate_visit *visits; /* TP__GATE_VISITS of them */
    tp__gate_visit *free_visit;
    unsigned visits_used;
    unsigned visit_count; /* ... of which the peer has been told */
    uint32_t last_visit;
    tp__gate_account account; /* what comes and goes; the messages are below */

    _Atomic uint64_t from_players;
    _Atomic uint64_t forwarded;
    _Atomic uint64_t returned;
    _Atomic uint64_t dropped[TP__GATE_DROP_COUNT];
    _Atomic uint64_t to_players;
    _Atomic uint64_t sent;
    _Atomic uint64_t refused[TP__GATE_REFUSAL_COUNT];
    _Atomic uint64_t malformed;
};

static inline void tp__gate_count(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

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
    uint32_t slot = tp_session_slot(session);
    tp__gate_player *page =
        atomic_load_explicit(&gate->pages[slot / TP__GATE_PAGE], memory_order_acquire);
    tp__gate_player *player = page ? &page[slot % TP__GATE_PAGE] : NULL;
    bool same = player && atomic_load_explicit(&player->session, memory_order_acquire) == session;
    return same ? player : NULL;
}

/* The server's handlers. */
void tp__gate_on_join(tp_server *server, tp_session_id session);
void tp__gate_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason);

/* He has a place: from here on he plays. Under the mutex. */
void tp__gate_play(tp__gate *gate, tp__gate_player *player);
/* The gate ends him after what has been sent to him. He is in no list and has no visit. Under the
 * mutex. */
void tp__gate_close_player(tp__gate *gate, tp__gate_player *player, uint16_t close_code);
/* He holds no place any more, if he did: he is being ended. Those who wait come in at the next
 * tick. Under the mutex. */
void tp__gate_give_place(tp__gate *gate, tp__gate_player *player);
/* Finds those whom the server is ending, for whatever they did, and gives their places: the gate
 * hears of it when they have hung up, which may take them drain_timeout. `coming`: players of the
 * server's whom the gate has not counted yet. Under the mutex. */
void tp__gate_find_ending(tp__gate *gate, unsigned coming);

void tp__gate_list_append(tp__gate_list *list, tp__gate_player *player);
void tp__gate_list_remove(tp__gate_list *list, tp__gate_player *player);

/* ---- room.c: the waiting room; under the mutex ----------------------------------------------- */

void tp__gate_wait_in_room(tp__gate *gate, tp__gate_player *player);
/* He leaves the waiting room, by whichever door. */
void tp__gate_leave_room(tp__gate *gate, tp__gate_player *player);
/* Lets in as many as there are places for. */
void tp__gate_admit(tp__gate *gate);
/* Lets them in whose places are free without anybody having left. True: somebody waits. */
bool tp__gate_look_after_room(tp__gate *gate);
/* Tells a player his place; 0: he is in. False: his queue does not take it. */
bool tp__gate_tell_place(tp__gate *gate, tp__gate_player *player, uint32_t place);
/* A part of a round. True: there is more to tell, now or later. */
bool tp__gate_tell_room(tp__gate *gate, uint64_t now_ms);

/* ---- services.c: services, their peers, and who is kept for them; under the mutex ------------ */

/* The service of this name, or NULL. */
tp__gate_service *tp__gate_find_service(tp__gate *gate, const char *name, size_t size);
/* ... made if it is new. NULL: max_services are known, and each has peers or players. */
tp__gate_service *tp__gate_open_service(tp__gate *gate, const char *name, size_t size);
/* Adds the service's peers that lanclient knows of. */
void tp__gate_gather_peers(tp__gate *gate, tp__gate_service *service);
tp__gate_peer *tp__gate_find_peer(const tp__gate *gate, tp_peer_id id);
/* The peer with the fewest players, other than `except`; NULL: there is none. */
tp__gate_peer *tp__gate_choose_peer(const tp__gate_service *service, const tp__gate_peer *except);

/* Finds the player a peer of his service, or keeps him, or closes him. */
void tp__gate_seek(tp__gate *gate, tp__gate_player *player);
/* He is not kept any longer. */
void tp__gate_unkeep(tp__gate *gate, tp__gate_player *player);
/* Peers for the kept ones, an end for those who were kept too long. True: some are still kept. */
bool tp__gate_look_after_kept(tp__gate *gate, uint64_t link_now_ms);
/* Its players go to other peers, or are kept. */
void tp__gate_abandon(tp__gate *gate, tp__gate_peer *peer);

/* lanclient's handlers; without the mutex. */
void tp__gate_on_up(tp_lanclient *client, tp_peer_id self);
void tp__gate_on_down(tp_lanclient *client, tp_err why);
void tp__gate_on_peer_up(tp_lanclient *client, const tp_peer *peer);
void tp__gate_on_peer_down(tp_lanclient *client, const tp_peer *peer);

/* ---- visits.c: under the mutex --------------------------------------------------------------- */

/* The player, who is there, is this peer's from here on. False: no visit is free. */
bool tp__gate_begin_visit(tp__gate *gate, tp__gate_player *player, tp__gate_peer *peer);
/* He is no longer: the peer will be told why. */
void tp__gate_end_visit(tp__gate *gate, tp__gate_player *player, uint16_t why, uint16_t end);
/* The peer is gone: so is the visit. Returns its player, or NULL. */
tp__gate_player *tp__gate_lose_visit(tp__gate *gate, tp__gate_visit *visit);
/* Says what is due to the peer, as far as there is room. */
void tp__gate_pump(tp__gate *gate, tp__gate_peer *peer);
/* The same for all peers. True: something is to be said, or an answer is awaited. */
bool tp__gate_pump_all(tp__gate *gate);

/* ---- messages.c ------------------------------------------------------------------------------ */

/* The server's and lanclient's handlers; without the mutex. */
void tp__gate_on_recv(tp_server *server, tp_session_id session, tp_packet *packet);
void tp__gate_on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);
void tp__gate_on_returned(tp_lanclient *client, const tp_returned *returned);
/* The message, or request, in hand is none of a service's: back to it. */
void tp__gate_on_malformed(tp__gate *gate, const tp_delivery *from);

/* ---- requests.c: kick and move --------------------------------------------------------------- */

void tp__gate_on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);

/* ---- gate.c ---------------------------------------------------------------------------------- */

/* There is something to look after by the clock. Under the mutex; only from the server's handlers
 * and tasks, from the gate's start, and for a player whose on_leave has not come: then the server
 * is there. An answer of a service's may come when it has been freed. */
void tp__gate_arm(tp__gate *gate);

#endif
