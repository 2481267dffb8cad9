/*
 * The connections that have not joined: how many there are, and which of them have not said HELLO,
 * oldest first.
 *
 * Honest clients say HELLO at once. So when there are too many, the oldest that has not makes room:
 * a flood of silent sockets pushes out only itself. When all have said it, a new one is turned
 * away.
 *
 * Any worker. The lock is held for a few instructions, four times in a connection's life at most,
 * never for a message. The list is linked through the players, by slot number + 1 (0: none).
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_PENDING_H
#define TWINPORT_WANSERVER_HANDSHAKE_PENDING_H

#include "core/engine/session_state.h"
#include "os/thread.h"

typedef struct tp__pending {
    tp_mutex mutex;
    uint32_t oldest;
    uint32_t newest;
    unsigned count; /* of pending connections, waiting or not */
    unsigned limit;
} tp__pending;

/* Slots for so many pending connections: those that were evicted have theirs until they are
 * released. */
static inline unsigned tp__pending_slots(unsigned limit) {
    return limit + limit / 4;
}

void tp__pending_init(tp__pending *pending, unsigned limit);
void tp__pending_destroy(tp__pending *pending);

/* Counts the session's connection, which waits from here on. *evicted: the id of one that must be
 * closed to make room for it, or TP_NO_SESSION. False: nobody can make room. */
bool tp__pending_add(tp__pending *pending, tp__session *session, tp_session_id *evicted);

/* It has said HELLO: it waits no more, and cannot be evicted. False: it has been evicted, and the
 * worker that did so is about to close it. */
bool tp__pending_heard(tp__pending *pending, tp__session *session);

/* It has joined, is told that it cannot, or is gone. Again, or for one that never was in:
 * nothing. */
void tp__pending_remove(tp__pending *pending, tp__session *session);

unsigned tp__pending_count(tp__pending *pending);

#endif
