/*
 * The token keys in use. They are replaced as a whole while workers read: every reader has a
 * reference to the set it reads, and releasing the last one wipes and frees the set. The mutex is
 * held to acquire or release a reference, once each per HELLO.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_TOKEN_KEYS_H
#define TWINPORT_WANSERVER_HANDSHAKE_TOKEN_KEYS_H

#include <stddef.h>

#include "os/thread.h"
#include "proto/token.h"

typedef struct tp__token_key_set {
    unsigned references; /* under the mutex of tp__token_keys */
    size_t count;
    tp_token_key keys[]; /* secret */
} tp__token_key_set;

typedef struct tp__token_keys {
    tp_mutex mutex;
    tp__token_key_set *current; /* NULL if there is none */
} tp__token_keys;

void tp__token_keys_init(tp__token_keys *holder);
/* Only the holder's own reference may be left. */
void tp__token_keys_destroy(tp__token_keys *holder);

/* Replaces the keys by copies of these. TP_ERR_INVALID (none, more than TP_TOKEN_KEYS_MAX, or an id
 * twice; the log says which), TP_ERR_NO_MEMORY. Any thread. */
tp_err tp__token_keys_set(tp__token_keys *holder, const tp_token_key *keys, size_t count);

/* The current set, with a reference that the caller releases; NULL if there is none. Any thread. */
tp__token_key_set *tp__token_keys_acquire(tp__token_keys *holder);
void tp__token_keys_release(tp__token_keys *holder, tp__token_key_set *set);

/* NULL, or the text of an invariant that does not hold: see core/base/invariant.h. Under the
 * mutex. */
const char *tp__token_keys_check(const tp__token_keys *holder);

#endif
