/*
 * The peers on the bus that the client has been notified of, sorted by id. Changed by the
 * connection's handlers, read by any thread, under a mutex of its own.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_PEER_TABLE_H
#define TWINPORT_LANCLIENT_CLIENT_PEER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/thread.h"
#include "twinport/lanclient.h"

typedef struct tp__peer_table {
    tp_mutex mutex;
    tp_peer *peers;
    size_t count;
    uint32_t capacity;
} tp__peer_table;

void tp__peer_table_init(tp__peer_table *table);
void tp__peer_table_destroy(tp__peer_table *table);

/* Adds a peer, or replaces the one with the same id. TP_ERR_NO_MEMORY. */
tp_err tp__peer_table_add(tp__peer_table *table, const tp_peer *peer);
/* Removes a peer and copies it to *removed. False: it is not in the table. */
bool tp__peer_table_remove(tp__peer_table *table, tp_peer_id id, tp_peer *removed);
/* Copies peer number `n` in the order of ids. False: there are not that many. */
bool tp__peer_table_at(tp__peer_table *table, size_t n, tp_peer *peer);
/* Copies a peer, peer->size bytes of it. False: it is not in the table. */
bool tp__peer_table_find(tp__peer_table *table, tp_peer_id id, tp_peer *peer);
/* As tp_lanclient_peers(). */
size_t tp__peer_table_list(
    tp__peer_table *table, const char *service, tp_peer *peers, size_t capacity);

/* The first invariant that does not hold, or NULL. Under the mutex; looks at every peer
 * (client_check.c). */
const char *tp__peer_table_check(const tp__peer_table *table);

#endif
