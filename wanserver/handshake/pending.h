/*
 * The pending connections, which have not joined yet: how many there are, and which of them have
 * not sent HELLO, oldest first.
 *
 * Honest clients send HELLO at once. So at the limit the oldest connection that has not sent it is
 * evicted: a flood of silent connections evicts only itself. When all have sent HELLO, a new
 * connection is refused.
 *
 * Called by any worker. The mutex is held for a few instructions, at most four times in the life of
 * a connection, never for a message. The list is linked through the connections; their numbers
 * are the slots' numbers + 1.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_PENDING_H
#define TWINPORT_WANSERVER_HANDSHAKE_PENDING_H

#include "core/base/index_list.h"
#include "core/engine/layer.h"
#include "os/thread.h"

typedef struct tp__pending {
    tp_mutex mutex;
    tp__index_list list; /* of the connections that have not sent HELLO; the oldest is first */
    unsigned count;      /* pending connections, with HELLO or without */
    unsigned limit;
} tp__pending;

/* The slots that this many pending connections need: a connection that was evicted keeps its slot
 * until it is released. */
static inline unsigned tp__pending_slots(unsigned limit) {
    return limit + limit / 4;
}

void tp__pending_init(tp__pending *pending, unsigned limit);
void tp__pending_destroy(tp__pending *pending);

/* Counts the connection of a session and appends it to the list. *evicted: the id of a session that
 * the caller must close in exchange, or TP_NO_SESSION. False: the limit is reached and every
 * pending connection has sent HELLO. */
bool tp__pending_add(tp__pending *pending, tp__session *session, tp_session_id *evicted);

/* Takes a connection that has sent HELLO off the list: it cannot be evicted any more. False: it has
 * been evicted already, and the worker that evicted it is about to close it. */
bool tp__pending_keep(tp__pending *pending, tp__session *session);

/* Uncounts a connection that has joined, gets its last REPLY, or has ended. No effect if it is not
 * counted. */
void tp__pending_remove(tp__pending *pending, tp__session *session);

unsigned tp__pending_count(tp__pending *pending);

/* Walks over the list. NULL, or the text of an invariant that does not hold: see
 * core/base/invariant.h. Under the mutex. */
const char *tp__pending_check(const tp__pending *pending, const tp_server *server);

#endif
