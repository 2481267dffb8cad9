/*
 * The list of pending connections. Called by workers. The mutex guards the list, the count, and the
 * fields `counted`, `evictable` and `link` of the connections.
 */
#include "wanserver/handshake/pending.h"

#include <assert.h>

#include "core/base/invariant.h"
#include "wanserver/wan.h"

void tp__pending_init(tp__pending *pending, unsigned limit) {
    assert(limit > 0);
    tp_mutex_init(&pending->mutex);
    pending->limit = limit;
}

void tp__pending_destroy(tp__pending *pending) {
    assert(pending->count == 0 && pending->list.count == 0);
    tp_mutex_destroy(&pending->mutex);
}

static tp__links pending_links(const tp_server *server) {
    tp__connection *first = tp__layer_state_at(server, 0);
    return (tp__links){
        .first = &first->link, .stride = sizeof(tp__connection), .count = tp__layer_slots(server)};
}

static void pending_append(tp__pending *pending, tp__session *session) {
    TP_ASSERT_LOCKED(&pending->mutex);
    tp__connection *connection = tp__connection_of(session);
    const tp__links links = pending_links(tp__layer_server(session));
    assert(connection->counted && !connection->evictable);
    connection->evictable = true;
    tp__index_list_append(&pending->list, &links, tp__layer_slot(session) + 1);
}

static void pending_unlink(tp__pending *pending, const tp__session *session) {
    TP_ASSERT_LOCKED(&pending->mutex);
    tp__connection *connection = tp__connection_of(session);
    const tp__links links = pending_links(tp__layer_server(session));
    if (connection->evictable) {
        assert(connection->counted);
        connection->evictable = false;
        tp__index_list_remove(&pending->list, &links, tp__layer_slot(session) + 1);
    }
}

/* Takes the oldest connection without HELLO off the list and the count; it is closed afterwards.
 * Its session cannot have been released, because release takes it off the list first, so the id is
 * its own. */
static tp_session_id pending_evict_oldest(tp__pending *pending, tp_server *server) {
    TP_ASSERT_LOCKED(&pending->mutex);
    assert(pending->count > 0 && pending->list.count > 0);
    tp__session *session = tp__layer_session_at(server, pending->list.first - 1);
    tp__connection *connection = tp__connection_of(session);
    assert(connection->evictable);
    pending_unlink(pending, session);
    connection->counted = false;
    pending->count--;
    return tp__layer_id(session);
}

bool tp__pending_add(tp__pending *pending, tp__session *session, tp_session_id *evicted) {
    *evicted = TP_NO_SESSION;
    tp_mutex_lock(&pending->mutex);
    if (pending->count >= pending->limit && pending->list.count > 0) {
        *evicted = pending_evict_oldest(pending, tp__layer_server(session));
    }
    bool added = pending->count < pending->limit;
    if (added) {
        pending->count++;
        tp__connection_of(session)->counted = true;
        pending_append(pending, session);
    }
    if (tp__layer_slot(session) ==
        0) { /* a sample, so that a flood does not walk the list each time */
        TP__VERIFY(tp__pending_check(pending, tp__layer_server(session)));
    }
    tp_mutex_unlock(&pending->mutex);
    return added;
}

bool tp__pending_keep(tp__pending *pending, tp__session *session) {
    tp__connection *connection = tp__connection_of(session);
    tp_mutex_lock(&pending->mutex);
    pending_unlink(pending, session);
    bool counted = connection->counted;
    tp_mutex_unlock(&pending->mutex);
    return counted;
}

void tp__pending_remove(tp__pending *pending, tp__session *session) {
    tp__connection *connection = tp__connection_of(session);
    tp_mutex_lock(&pending->mutex);
    pending_unlink(pending, session);
    assert(pending->count >= connection->counted);
    pending->count -= connection->counted;
    connection->counted = false;
    tp_mutex_unlock(&pending->mutex);
}

unsigned tp__pending_count(tp__pending *pending) {
    tp_mutex_lock(&pending->mutex);
    unsigned count = pending->count;
    tp_mutex_unlock(&pending->mutex);
    return count;
}

/* The connections that have sent HELLO are counted and in no list, so `count` may be higher than
 * the number of those in the list. */
const char *tp__pending_check(const tp__pending *pending, const tp_server *server) {
    const tp__links links = pending_links(server);
    TP_ASSERT_LOCKED(&pending->mutex);
    TP__INVARIANT(pending->count <= pending->limit);
    TP__INVARIANT(pending->list.count <= pending->count);
    const char *broken = tp__index_list_check(&pending->list, &links);
    for (uint32_t at = pending->list.first; !broken && at != 0;) {
        const tp__connection *connection = tp__layer_state_at(server, at - 1);
        TP__INVARIANT(connection->evictable && connection->counted);
        TP__INVARIANT(
            atomic_load_explicit(&connection->state, memory_order_relaxed) == TP__CONNECTION_HELLO);
        at = connection->link.next;
    }
    return broken;
}
