/*
 * The connections of the hub: which peer each session is, and which sessions are pending. A pending
 * session has not sent its HELLO and must send it in time.
 */
#ifndef TWINPORT_LANSERVER_BUS_CONNECTIONS_H
#define TWINPORT_LANSERVER_BUS_CONNECTIONS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/base/list.h"
#include "core/memory/slot_pages.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/server.h"

struct tp__peer;

/* A session's entry, found by its slot. `peer` belongs to the session's handlers; the rest is
 * written under the mutex. */
typedef struct tp__hub_connection {
    struct tp__peer *peer; /* NULL: pending, or refused */
    tp_session_id session;
    uint64_t due_ms;   /* when it is checked next */
    uint64_t since_ms; /* served time at on_join; HELLO is due timeout_ms of served time later */
    tp__link link;
    bool pending; /* it is in the list of pending connections */
} tp__hub_connection;

/* The connection of a link; NULL: of none. */
static inline tp__hub_connection *tp__hub_connection_of(const tp__link *link) {
    return link ? TP_CONTAINER_OF(link, tp__hub_connection, link) : NULL;
}

typedef struct tp__hub_connections {
    tp__slot_pages entries;
    tp_server *server;
    unsigned timeout_ms;
    tp_mutex mutex;
    tp__list list;         /* the pending connections, by due_ms */
    bool armed;            /* a task that checks the list is posted */
    _Atomic uint64_t late; /* sessions without a HELLO in time */
} tp__hub_connections;

void tp__hub_connections_init(tp__hub_connections *connections, unsigned timeout_ms);
/* Before each start of the server, while it has no session; a stop has dropped its tasks. */
void tp__hub_connections_reset(tp__hub_connections *connections, tp_server *server);
void tp__hub_connections_destroy(tp__hub_connections *connections);

/* on_join: a pending connection for the session. NULL: no memory. */
tp__hub_connection *tp__hub_connections_add(
    tp__hub_connections *connections, tp_session_id session);
/* on_recv, on_leave: the session's connection. NULL if on_join had no memory for it. */
tp__hub_connection *tp__hub_connections_find(
    tp__hub_connections *connections, tp_session_id session);
/* After registration, and in on_leave: takes the connection off the pending list, if it is on
 * it. */
void tp__hub_connections_remove_pending(
    tp__hub_connections *connections, tp__hub_connection *connection);

/* The first invariant of the list of pending connections that does not hold, or NULL. Under the
 * mutex; looks at every entry. */
const char *tp__hub_connections_check(const tp__hub_connections *connections);

#endif
