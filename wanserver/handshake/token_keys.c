/*
 * The token keys in use. Any thread.
 */
#include "wanserver/handshake/token_keys.h"

#include <stdbool.h>
#include <string.h>

#include "core/memory/memory.h"
#include "twinport/log.h"
#include "wanserver/wan.h"

void tp__ring_init(tp__ring *ring) {
    tp_mutex_init(&ring->mutex);
    ring->current = NULL;
}

void tp__ring_destroy(tp__ring *ring) {
    tp__ring_give(ring, ring->current);
    ring->current = NULL;
    tp_mutex_destroy(&ring->mutex);
}

static bool are_valid(const tp_token_key *keys, size_t count) {
    bool seen[TP_TOKEN_KEYS_MAX] = {false};
    if (!keys || count < 1 || count > TP_TOKEN_KEYS_MAX) {
        TP_LOG(TP_LOG_ERROR, "wanserver: %zu token keys; 1 to %u are possible", count,
            TP_TOKEN_KEYS_MAX);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (seen[keys[i].id]) {
            TP_LOG(TP_LOG_ERROR, "wanserver: two token keys with the id %u", keys[i].id);
            return false;
        }
        seen[keys[i].id] = true;
    }
    return true;
}

tp_err tp__ring_set(tp__ring *ring, const tp_token_key *keys, size_t count) {
    if (!are_valid(keys, count)) {
        return TP_ERR_INVALID;
    }
    tp__ring_keys *copy = tp__allocate(sizeof *copy + count * sizeof *keys);
    if (!copy) {
        return TP_ERR_NO_MEMORY;
    }
    copy->references = 1;
    copy->count = count;
    memcpy(copy->keys, keys, count * sizeof *keys);
    tp_mutex_lock(&ring->mutex);
    tp__ring_keys *before = ring->current;
    ring->current = copy;
    tp_mutex_unlock(&ring->mutex);
    tp__ring_give(ring, before);
    return TP_OK;
}

tp__ring_keys *tp__ring_take(tp__ring *ring) {
    tp_mutex_lock(&ring->mutex);
    tp__ring_keys *keys = ring->current;
    if (keys) {
        keys->references++;
    }
    tp_mutex_unlock(&ring->mutex);
    return keys;
}

void tp__ring_give(tp__ring *ring, tp__ring_keys *keys) {
    if (!keys) {
        return;
    }
    tp_mutex_lock(&ring->mutex);
    bool last = --keys->references == 0;
    tp_mutex_unlock(&ring->mutex);
    if (last) {
        tp_secure_wipe(keys->keys, keys->count * sizeof keys->keys[0]);
        tp__free(keys);
    }
}

tp_err tp_wanserver_set_token_keys(tp_server *server, const tp_token_key *keys, size_t count) {
    tp__wan *wan = tp__wan_of_server(server);
    return wan ? tp__ring_set(&wan->ring, keys, count) : TP_ERR_INVALID;
}
