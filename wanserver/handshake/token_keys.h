/*
 * The token keys in use. Replaced as a whole while workers read: who reads has a reference, and the
 * last one wipes and frees. The lock is held to take or give back a reference, once per HELLO.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_TOKEN_KEYS_H
#define TWINPORT_WANSERVER_HANDSHAKE_TOKEN_KEYS_H

#include <stddef.h>

#include "os/thread.h"
#include "proto/token.h"

typedef struct tp__ring_keys {
    unsigned references; /* under the ring's lock */
    size_t count;
    tp_token_key keys[]; /* secret */
} tp__ring_keys;

typedef struct tp__ring {
    tp_mutex mutex;
    tp__ring_keys *current; /* NULL: none */
} tp__ring;

void tp__ring_init(tp__ring *ring);
/* Nobody has a reference any more. */
void tp__ring_destroy(tp__ring *ring);

/* Replaces the keys by copies of these. TP_ERR_INVALID (none, more than TP_TOKEN_KEYS_MAX, or an id
 * twice: logged), TP_ERR_NO_MEMORY. Any thread. */
tp_err tp__ring_set(tp__ring *ring, const tp_token_key *keys, size_t count);

/* The keys, until they are given back; NULL if there are none. Any thread. */
tp__ring_keys *tp__ring_take(tp__ring *ring);
void tp__ring_give(tp__ring *ring, tp__ring_keys *keys);

#endif
