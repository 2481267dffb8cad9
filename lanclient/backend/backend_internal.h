/*
 * Internals of the backend, shared by its files.
 *
 * GATES are peers of the configured service. Each has an entry in `gates`, found by its peer id. A
 * gate's `slots` lead from a session's slot to the player in it, in pages allocated at first use. A
 * gate beyond max_gates has no entry and is called a surplus gate. PLAYERS have an entry each in
 * `players`, named by `index`; the free entries form a stack.
 *
 * THREADS. The handlers of the lanclient run one after another. Only they change gates and players,
 * and they read them without a lock. Any other thread may
 *   - check whether a handle is a player's (tp__backend_has): two atomics of the player's entry;
 *   - read a player's info, or a gate's list of sessions: under `mutex`, which changes take too.
 * Under `mutex` packets are created and queued, and nothing else is called. No handler runs under
 * it.
 */
#ifndef TWINPORT_LANCLIENT_BACKEND_BACKEND_INTERNAL_H
#define TWINPORT_LANCLIENT_BACKEND_BACKEND_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/base/counter.h"
#include "core/base/stats_list.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "proto/gate.h"
#include "twinport/backend.h"

#define TP__BACKEND_PAGE  1024u
#define TP__BACKEND_PAGES (TP_MAX_SESSIONS / TP__BACKEND_PAGE)

/* A gate. The order of its list is irrelevant: the last player fills the gap of one that leaves. */
typedef struct tp__backend_gate {
    tp_peer_id peer;                    /* TP_NO_PEER: the entry is free */
    uint32_t count;                     /* players in the list */
    uint32_t capacity;                  /* players that the list has memory for */
    uint64_t *sessions;                 /* count of them */
    uint32_t *indexes;                  /* likewise: the players' indexes */
    uint32_t *slots[TP__BACKEND_PAGES]; /* by slot: player's index + 1, or 0; NULL: empty page */
} tp__backend_gate;

/* A player's entry. `session` is stored after `gate` and cleared first: a thread that reads a
 * session (acquire) reads the gate that belongs to it, or a later one, and session ids are never
 * used twice. */
typedef struct tp__backend_player {
    _Atomic uint64_t session; /* TP_NO_SESSION: the entry is free */
    _Atomic uint32_t gate;
    uint32_t assignment; /* the assignment's number, from JOIN */
    uint32_t position;   /* in the list of the player's gate */
    uint32_t next;       /* free entry: the next free entry's index + 1, or 0 */
    tp_player_info info;
} tp__backend_player;

/* One for each player that the service may have. */
_Static_assert(sizeof(void *) != 8 || sizeof(tp__backend_player) <= 152, "a player has grown");

/* The fields of tp_backend_stats in their order, which are counters of the backend. */
#define TP__BACKEND_STATS(COUNT)                                                                   \
    COUNT(joined)                                                                                  \
    COUNT(returned_players)                                                                        \
    COUNT(left)                                                                                    \
    COUNT(refused)                                                                                 \
    COUNT(received)                                                                                \
    COUNT(unknown)                                                                                 \
    COUNT(malformed)                                                                               \
    COUNT(sent)                                                                                    \
    COUNT(bus_messages)                                                                            \
    COUNT(returned)

struct tp_backend {
    tp_backend_options options; /* strings point to the copies */
    tp_backend_handlers handlers;
    char gate_service[TP_NAME_MAX + 1];
    tp_lanclient *client;

    tp_mutex mutex;
    tp__backend_gate *gates;     /* max_gates */
    uint32_t last_gate;          /* handlers: index of the gate found last */
    uint32_t surplus_gates;      /* handlers: number of surplus gates */
    tp__backend_player *players; /* max_players */
    uint32_t free_player;        /* first free entry's index + 1, 0: none */
    _Atomic uint32_t player_count;

    TP__BACKEND_STATS(TP__STATS_ATOMIC)
};

/* True if the handle is that of a present player. Any thread. */
static inline bool tp__backend_has(const tp_backend *backend, const tp_player *handle) {
    if (TP_UNLIKELY(
            handle->index >= backend->options.max_players || handle->session == TP_NO_SESSION)) {
        return false;
    }
    const tp__backend_player *player = &backend->players[handle->index];
    return atomic_load_explicit(&player->session, memory_order_acquire) == handle->session &&
           atomic_load_explicit(&player->gate, memory_order_relaxed) == handle->gate;
}

/* ---- backend_players.c: called by the handlers ----------------------------------------------- */

tp_err tp__backend_players_create(tp_backend *backend);
void tp__backend_players_destroy(tp_backend *backend);

/* The gate with this peer id. NULL: there is none, or it is a surplus gate. */
tp__backend_gate *tp__backend_find_gate(tp_backend *backend, tp_peer_id peer);
/* Gives a gate an entry. NULL: there are max_gates already. */
tp__backend_gate *tp__backend_open_gate(tp_backend *backend, tp_peer_id peer);
/* Frees a gate's entry. Its players must have left. */
void tp__backend_close_gate(tp_backend *backend, tp__backend_gate *gate);

/* The player in the slot of this session, or NULL. The player's session may be another one. */
tp__backend_player *tp__backend_in_slot(
    tp_backend *backend, const tp__backend_gate *gate, tp_session_id session);

/* Adds a player; `info` is completed with the player's handle and stored, without the blob.
 * TP_ERR_FULL, TP_ERR_NO_MEMORY. Takes the mutex. */
tp_err tp__backend_add_player(
    tp_backend *backend, tp__backend_gate *gate, uint32_t assignment, tp_player_info *info);

/* Removes a player: the handle is invalid from here on. Takes the mutex. */
void tp__backend_remove_player(
    tp_backend *backend, tp__backend_gate *gate, tp__backend_player *player);

/* ---- backend_check.c ------------------------------------------------------------------------- */

/* Walks over everything that the backend has. NULL, or the text of an invariant that does not hold:
 * see core/base/invariant.h. Called by the handlers, under the mutex. */
const char *tp__backend_check(const tp_backend *backend);

/* ---- backend_receive.c ----------------------------------------------------------------------- */

/* The handlers for the lanclient. */
extern const tp_lanclient_handlers tp__backend_bus_handlers;

#endif
