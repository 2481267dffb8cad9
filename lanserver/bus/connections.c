/*
 * Connections of the hub, pending and registered. See connections.h.
 *
 * tp__hub_connections_add(), _find() and _remove_pending() are called by the session's own
 * handlers. connections_check_due() runs as a task on any worker and touches only the list, under
 * the mutex. An entry belongs to the session that has the slot, and the server reuses a slot only
 * after on_leave, so an entry is used by one session at a time.
 */
#include "lanserver/bus/connections.h"

#include <assert.h>

#include "core/base/counter.h"
#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "os/clock.h"
#include "proto/frame.h"
#include "twinport/log.h"

static void connections_check_due(void *context);

void tp__hub_connections_init(tp__hub_connections *connections, unsigned timeout_ms) {
    tp__slot_pages_init(&connections->entries);
    connections->server = NULL;
    connections->timeout_ms = timeout_ms;
    connections->list = (tp__list){0};
    connections->armed = false;
    atomic_init(&connections->late, 0);
    tp_mutex_init(&connections->mutex);
}

void tp__hub_connections_reset(tp__hub_connections *connections, tp_server *server) {
    assert(server);
    tp_mutex_lock(&connections->mutex);
    assert(connections->list.count == 0);
    connections->server = server;
    connections->armed = false;
    tp_mutex_unlock(&connections->mutex);
}

void tp__hub_connections_destroy(tp__hub_connections *connections) {
    assert(connections->list.count == 0); /* every session has left */
    tp__slot_pages_free(&connections->entries);
    tp_mutex_destroy(&connections->mutex);
}

static void connections_unlink(tp__hub_connections *connections, tp__hub_connection *connection) {
    TP_ASSERT_LOCKED(&connections->mutex);
    assert(connection->pending);
    tp__list_remove(&connections->list, &connection->link);
    connection->pending = false;
}

/* Posts the task that checks the list, for the time at which its first entry is due. If that fails,
 * the session is still ended, later, by the idle time-out. */
static void connections_arm(tp__hub_connections *connections, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&connections->mutex);
    const tp__hub_connection *first = tp__hub_connection_of(connections->list.first);
    if (connections->armed || !first) {
        return;
    }
    uint64_t due = first->due_ms;
    unsigned delay = due > now_ms ? (unsigned)(due - now_ms) : 0;
    tp_err error = tp_server_post(connections->server, delay, connections_check_due, connections);
    connections->armed = error == TP_OK;
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_WARNING, "bus: HELLO deadline not watched: %s", tp_err_text(error));
    }
}

static void connections_log_late(tp__hub_connections *connections, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    char text[TP_ADDRESS_TEXT] = "?";
    tp__count_shared(&connections->late, 1);
    if (tp_server_session_info(connections->server, session, &info)) {
        tp_address_format(&info.peer, text);
    }
    TP_LOG(TP_LOG_WARNING, "bus: refused %s: no HELLO within %u ms", text, connections->timeout_ms);
}

static void connections_append(tp__hub_connections *connections, tp__hub_connection *connection) {
    TP_ASSERT_LOCKED(&connections->mutex);
    assert(!connection->pending);
    const tp__hub_connection *last = tp__hub_connection_of(connections->list.last);
    assert(!last || last->due_ms <= connection->due_ms);
    (void)last;
    tp__list_append(&connections->list, &connection->link);
    connection->pending = true;
}

/* The rest of its time for HELLO. Time in which its worker was blocked does not count: the HELLO
 * may be in the socket. */
static uint64_t connections_time_left(
    const tp__hub_connections *connections, const tp__hub_connection *connection, uint64_t now_ms) {
    uint64_t served =
        tp__server_session_served_ms(connections->server, connection->session, now_ms) -
        connection->since_ms;
    return served < connections->timeout_ms ? connections->timeout_ms - served : 0;
}

/* Appends the entry, due at due_ms, but not before the last one in the list: it is checked at most
 * one time-out too late. */
static void connections_check_later(
    tp__hub_connections *connections, tp__hub_connection *connection, uint64_t due_ms) {
    TP_ASSERT_LOCKED(&connections->mutex);
    const tp__hub_connection *last = tp__hub_connection_of(connections->list.last);
    uint64_t last_ms = last ? last->due_ms : 0;
    connection->due_ms = due_ms > last_ms ? due_ms : last_ms;
    connections_append(connections, connection);
}

/* The first connection of the list, if it is due. */
static tp__hub_connection *connections_due(
    const tp__hub_connections *connections, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&connections->mutex);
    tp__hub_connection *first = tp__hub_connection_of(connections->list.first);
    return first && first->due_ms <= now_ms ? first : NULL;
}

static void connections_check_due(void *context) {
    tp__hub_connections *connections = context;
    uint64_t now = tp_clock_ms();
    tp_mutex_lock(&connections->mutex);
    connections->armed = false;
    tp__hub_connection *connection;
    while ((connection = connections_due(connections, now)) != NULL) {
        uint64_t left = connections_time_left(connections, connection, now);
        connections_unlink(connections, connection);
        if (left > 0) {
            connections_check_later(connections, connection, now + left);
            continue;
        }
        connections_log_late(connections, connection->session);
        tp_server_turn_away(connections->server, connection->session, TP_CLOSE_IDLE);
    }
    connections_arm(connections, now);
    TP__VERIFY(tp__hub_connections_check(connections));
    tp_mutex_unlock(&connections->mutex);
}

tp__hub_connection *tp__hub_connections_add(
    tp__hub_connections *connections, tp_session_id session) {
    tp__hub_connection *connection =
        tp__slot_make(&connections->entries, tp_session_slot(session), sizeof *connection);
    if (!connection) {
        return NULL;
    }
    uint64_t now = tp_clock_ms();
    uint64_t since = tp__server_session_served_ms(connections->server, session, now);
    connection->peer = NULL;
    tp_mutex_lock(&connections->mutex);
    connection->session = session;
    connection->since_ms = since;
    connections_check_later(connections, connection, now + connections->timeout_ms);
    connections_arm(connections, now);
    tp_mutex_unlock(&connections->mutex);
    return connection;
}

tp__hub_connection *tp__hub_connections_find(
    tp__hub_connections *connections, tp_session_id session) {
    tp__hub_connection *connection =
        tp__slot_find(&connections->entries, tp_session_slot(session), sizeof *connection);
    return connection && connection->session == session ? connection : NULL;
}

void tp__hub_connections_remove_pending(
    tp__hub_connections *connections, tp__hub_connection *connection) {
    tp_mutex_lock(&connections->mutex);
    if (connection->pending) {
        connections_unlink(connections, connection);
    }
    TP__VERIFY(tp__hub_connections_check(connections));
    tp_mutex_unlock(&connections->mutex);
}

/* ---- invariants ------------------------------------------------------------------------------ */

static uint32_t connections_count_pending(const tp__hub_connections *connections) {
    uint32_t count = 0;
    for (uint32_t slot = 0; (slot = tp__slot_next(&connections->entries, slot)) < TP_MAX_SESSIONS;
         slot++) {
        const tp__hub_connection *connection =
            tp__slot_find(&connections->entries, slot, sizeof *connection);
        count += connection->pending;
    }
    return count;
}

const char *tp__hub_connections_check(const tp__hub_connections *connections) {
    TP_ASSERT_LOCKED(&connections->mutex);
    uint32_t pending = connections_count_pending(connections);
    uint64_t due_ms = 0;
    const char *broken = tp__list_check(&connections->list);
    for (const tp__link *at = connections->list.first; !broken && at; at = at->next) {
        const tp__hub_connection *it = tp__hub_connection_of(at);
        TP__INVARIANT(it->pending);
        TP__INVARIANT(it->due_ms >= due_ms);
        TP__INVARIANT(
            tp__slot_find(&connections->entries, tp_session_slot(it->session), sizeof *it) == it);
        due_ms = it->due_ms;
    }
    /* What is marked pending is in the list. */
    TP__INVARIANT(broken || connections->list.count == pending);
    return broken;
}
