/*
 * The token keys in use. Any thread. Owns the current set; each reader has a reference to the set
 * it reads.
 */
#include "wanserver/handshake/token_keys.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "twinport/log.h"
#include "wanserver/wan.h"

void tp__token_keys_init(tp__token_keys *holder) {
    tp_mutex_init(&holder->mutex);
    holder->current = NULL;
}

void tp__token_keys_destroy(tp__token_keys *holder) {
    assert(!holder->current || holder->current->references == 1);
    tp__token_keys_release(holder, holder->current);
    holder->current = NULL;
    tp_mutex_destroy(&holder->mutex);
}

static bool token_keys_valid(const tp_token_key *keys, size_t count) {
    bool seen[TP_TOKEN_KEYS_MAX] = {false};
    if (!keys || count < 1 || count > TP_TOKEN_KEYS_MAX) {
        TP_LOG(TP_LOG_ERROR, "wanserver options: %zu token keys: expected 1 to %u", count,
            TP_TOKEN_KEYS_MAX);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (seen[keys[i].id]) {
            TP_LOG(TP_LOG_ERROR, "wanserver options: two token keys with id %u", keys[i].id);
            return false;
        }
        seen[keys[i].id] = true;
    }
    return true;
}

tp_err tp__token_keys_set(tp__token_keys *holder, const tp_token_key *keys, size_t count) {
    if (!token_keys_valid(keys, count)) {
        return TP_ERR_INVALID;
    }
    tp__token_key_set *copy = tp__allocate(sizeof *copy + count * sizeof *keys);
    if (!copy) {
        return TP_ERR_NO_MEMORY;
    }
    copy->references = 1;
    copy->count = count;
    memcpy(copy->keys, keys, count * sizeof *keys);
    tp_mutex_lock(&holder->mutex);
    tp__token_key_set *before = holder->current;
    holder->current = copy;
    TP__VERIFY(tp__token_keys_check(holder));
    tp_mutex_unlock(&holder->mutex);
    tp__token_keys_release(holder, before);
    return TP_OK;
}

tp__token_key_set *tp__token_keys_acquire(tp__token_keys *holder) {
    tp_mutex_lock(&holder->mutex);
    tp__token_key_set *set = holder->current;
    if (set) {
        set->references++;
    }
    tp_mutex_unlock(&holder->mutex);
    return set;
}

void tp__token_keys_release(tp__token_keys *holder, tp__token_key_set *set) {
    if (!set) {
        return;
    }
    tp_mutex_lock(&holder->mutex);
    assert(set->references > 0);
    bool last = --set->references == 0;
    tp_mutex_unlock(&holder->mutex);
    if (last) {
        tp_secure_wipe(set->keys, set->count * sizeof set->keys[0]);
        tp__free(set);
    }
}

const char *tp__token_keys_check(const tp__token_keys *holder) {
    const tp__token_key_set *set = holder->current;
    bool seen[TP_TOKEN_KEYS_MAX] = {false};
    TP_ASSERT_LOCKED(&holder->mutex);
    if (!set) {
        return NULL;
    }
    TP__INVARIANT(set->references >= 1); /* the holder's own */
    TP__INVARIANT(set->count >= 1 && set->count <= TP_TOKEN_KEYS_MAX);
    for (size_t i = 0; i < set->count; i++) {
        TP__INVARIANT(!seen[set->keys[i].id]);
        seen[set->keys[i].id] = true;
    }
    return NULL;
}

tp_err tp_wanserver_set_token_keys(tp_server *server, const tp_token_key *keys, size_t count) {
    tp__wan *wan = tp__wan_of_server(server);
    return wan ? tp__token_keys_set(&wan->token_keys, keys, count) : TP_ERR_INVALID;
}
