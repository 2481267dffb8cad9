/*
 * The peers that the client knows of, by rising id. Changed by the connection's handlers, read by
 * any thread, under a mutex that nothing is called under.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_PEER_TABLE_H
#define TWINPORT_LANCLIENT_CLIENT_PEER_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "os/thread.h"
#include "twinport/lanclient.h"

typedef struct tp__known {
    tp_mutex mutex;
    tp_peer *peers;
    size_t count;
    size_t room;
} tp__known;

void tp__known_init(tp__known *known);
void tp__known_destroy(tp__known *known);

/* TP_ERR_NO_MEMORY. One with the same id is replaced. */
tp_err tp__known_add(tp__known *known, const tp_peer *peer);
/* False: it is not known. */
bool tp__known_remove(tp__known *known, tp_peer_id id, tp_peer *removed);
/* Number `n` by rising id. False: there are not that many. */
bool tp__known_at(tp__known *known, size_t n, tp_peer *peer);
bool tp__known_find(tp__known *known, tp_peer_id id, tp_peer *peer);
/* tp_lanclient_peers(). */
size_t tp__known_list(tp__known *known, const char *service, tp_peer *peers, size_t room);

#endif
