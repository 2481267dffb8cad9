/*
 * The backend's inside: what its files share.
 *
 * GATES are peers of the configured service; each has a place in `gates`, found by its peer id. A
 * gate's `slots` lead from a session's slot to the player who has it, in pages made when first
 * used. PLAYERS have a place each in `players`, named by `index`; the free ones are a stack.
 *
 * THREADS. Handlers of the lanclient come one after another; they alone change gates and players,
 * and read them without a lock. Any other thread may
 *   - ask whether a name is a player's (tp__backend_has): two atomics of his place;
 *   - read a player's info, or a gate's list of sessions: under `mutex`, which changes take too.
 * Under `mutex` nothing is called but the making and queueing of packets. No handler runs under it.
 */
#ifndef TWINPORT_LANCLIENT_BACKEND_BACKEND_INTERNAL_H
#define TWINPORT_LANCLIENT_BACKEND_BACKEND_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "os/compiler.h"
#include "os/thread.h"
#include "proto/gate.h"
#include "twinport/backend.h"

#define TP__BACKEND_PAGE  1024u
#define TP__BACKEND_PAGES (TP_MAX_SESSIONS / TP__BACKEND_PAGE)

/* A gate. The list's order means nothing: the last one takes the place of one that goes. */
typedef struct tp__backend_gate {
    tp_peer_id peer;                    /* TP_NO_PEER: the place is free */
    uint32_t count;                     /* players */
    uint32_t room;                      /* ... that the list has memory for */
    uint64_t *sessions;                 /* count of them */
    uint32_t *indexes;                  /* likewise: whose they are */
    uint32_t *slots[TP__BACKEND_PAGES]; /* index + 1 by slot; 0: nobody. NULL: nobody in the page */
} tp__backend_gate;

/* A player's place. session is stored after gate and cleared first: whoever finds a session there
 * (acquire) finds the gate that belongs to it, or a later one, and session ids are never used
 * twice. */
typedef struct tp__backend_player {
    _Atomic uint64_t session; /* TP_NO_SESSION: the place is free */
    _Atomic uint32_t gate;
    uint32_t visit;    /* the number of the JOIN that brought him */
    uint32_t position; /* in his gate's list */
    uint32_t next;     /* free: the next free one's index + 1 */
    tp_player_info info;
} tp__backend_player;

struct tp_backend {
    tp_backend_options options; /* names point to the copies below */
    tp_backend_handlers handlers;
    char gate_service[TP_NAME_MAX + 1];
    tp_lanclient *client;

    tp_mutex mutex;
    tp__backend_gate *gates;     /* max_gates */
    uint32_t last_gate;          /* the handlers': where the last one was found */
    uint32_t strangers;          /* the handlers': gates that found no place */
    tp__backend_player *players; /* max_players */
    uint32_t free_player;        /* index + 1, 0: none */
    _Atomic uint32_t player_count;

    _Atomic uint64_t joined;
    _Atomic uint64_t returned_players;
    _Atomic uint64_t left;
    _Atomic uint64_t refused;
    _Atomic uint64_t received;
    _Atomic uint64_t unknown;
    _Atomic uint64_t malformed;
    _Atomic uint64_t sent;
    _Atomic uint64_t bus_messages;
    _Atomic uint64_t returned;
};

static inline void tp__backend_count(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

/* Is this a player's name? Any thread. */
static inline bool tp__backend_has(const tp_backend *backend, const tp_player *name) {
    if (TP_UNLIKELY(
            name->index >= backend->options.max_players || name->session == TP_NO_SESSION)) {
        return false;
    }
    const tp__backend_player *player = &backend->players[name->index];
    return atomic_load_explicit(&player->session, memory_order_acquire) == name->session &&
           atomic_load_explicit(&player->gate, memory_order_relaxed) == name->gate;
}

/* ---- backend_players.c: the handlers', unless it says any thread ----------------------------- */

tp_err tp__backend_players_create(tp_backend *backend);
void tp__backend_players_destroy(tp_backend *backend);

/* NULL: it has no place. */
tp__backend_gate *tp__backend_find_gate(tp_backend *backend, tp_peer_id peer);
/* NULL: there are max_gates already. */
tp__backend_gate *tp__backend_open_gate(tp_backend *backend, tp_peer_id peer);
/* Its players must have left. */
void tp__backend_close_gate(tp_backend *backend, tp__backend_gate *gate);

/* Who has this session's slot, or NULL. */
tp__backend_player *tp__backend_in_slot(
    tp_backend *backend, const tp__backend_gate *gate, tp_session_id session);

/* A place for a player; `info` is completed with his name and kept, without the blob. TP_ERR_FULL,
 * TP_ERR_NO_MEMORY. */
tp_err tp__backend_enter(
    tp_backend *backend, tp__backend_gate *gate, uint32_t visit, tp_player_info *info);

/* His name finds nobody any more. */
void tp__backend_exit(tp_backend *backend, tp__backend_gate *gate, tp__backend_player *player);

/* ---- backend_receive.c ----------------------------------------------------------------------- */

/* The handlers for the lanclient. */
extern const tp_lanclient_handlers tp__backend_bus_handlers;

#endif
