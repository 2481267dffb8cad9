/*
 * The connections that have not joined. Workers call this; the lock guards the list, the count and
 * the players' fields that belong to them.
 */
#include "wanserver/handshake/pending.h"

#include "wanserver/wan.h"

void tp__pending_init(tp__pending *pending, unsigned limit) {
    tp_mutex_init(&pending->mutex);
    pending->limit = limit;
}

void tp__pending_destroy(tp__pending *pending) {
    tp_mutex_destroy(&pending->mutex);
}

static tp__player *player_at(const tp_server *server, uint32_t link) {
    return tp__player_of(&server->sessions[link - 1]);
}

static void put_last(tp__pending *pending, tp__session *session) {
    tp__player *player = tp__player_of(session);
    player->waiting = true;
    player->older = pending->newest;
    player->newer = 0;
    if (pending->newest) {
        player_at(session->server, pending->newest)->newer = session->index + 1;
    } else {
        pending->oldest = session->index + 1;
    }
    pending->newest = session->index + 1;
}

static void take_out(tp__pending *pending, const tp_server *server, tp__player *player) {
    if (!player->waiting) {
        return;
    }
    player->waiting = false;
    if (player->older) {
        player_at(server, player->older)->newer = player->newer;
    } else {
        pending->oldest = player->newer;
    }
    if (player->newer) {
        player_at(server, player->newer)->older = player->older;
    } else {
        pending->newest = player->older;
    }
}

/* The oldest that waits is not counted any more: its place is given away before it is closed. Its
 * session cannot have been released, for that takes it out first: so the id is its own. */
static tp_session_id evict_oldest(tp__pending *pending, tp_server *server) {
    tp__session *session = &server->sessions[pending->oldest - 1];
    tp__player *player = tp__player_of(session);
    take_out(pending, server, player);
    player->counted = false;
    pending->count--;
    return tp__session_id(session);
}

bool tp__pending_add(tp__pending *pending, tp__session *session, tp_session_id *evicted) {
    *evicted = TP_NO_SESSION;
    tp_mutex_lock(&pending->mutex);
    if (pending->count >= pending->limit && pending->oldest) {
        *evicted = evict_oldest(pending, session->server);
    }
    bool room = pending->count < pending->limit;
    if (room) {
        pending->count++;
        tp__player_of(session)->counted = true;
        put_last(pending, session);
    }
    tp_mutex_unlock(&pending->mutex);
    return room;
}

bool tp__pending_heard(tp__pending *pending, tp__session *session) {
    tp__player *player = tp__player_of(session);
    tp_mutex_lock(&pending->mutex);
    take_out(pending, session->server, player);
    bool counted = player->counted;
    tp_mutex_unlock(&pending->mutex);
    return counted;
}

void tp__pending_remove(tp__pending *pending, tp__session *session) {
    tp__player *player = tp__player_of(session);
    tp_mutex_lock(&pending->mutex);
    take_out(pending, session->server, player);
    pending->count -= player->counted;
    player->counted = false;
    tp_mutex_unlock(&pending->mutex);
}

unsigned tp__pending_count(tp__pending *pending) {
    tp_mutex_lock(&pending->mutex);
    unsigned count = pending->count;
    tp_mutex_unlock(&pending->mutex);
    return count;
}
