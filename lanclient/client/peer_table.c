/*
 * See peer_table.h.
 */
#include "lanclient/client/peer_table.h"

#include <assert.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/memory/grow.h"
#include "core/memory/memory.h"

#define FIRST_SIZE 16u

void tp__peer_table_init(tp__peer_table *table) {
    memset(table, 0, sizeof *table);
    tp_mutex_init(&table->mutex);
}

void tp__peer_table_destroy(tp__peer_table *table) {
    tp__free(table->peers);
    tp_mutex_destroy(&table->mutex);
}

/* The position at which the id is, or belongs. Binary search. */
static size_t peer_table_position(const tp__peer_table *table, tp_peer_id id) {
    TP_ASSERT_LOCKED(&table->mutex);
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->peers[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    assert(low <= table->count);
    return low;
}

static bool peer_table_is_at(const tp__peer_table *table, size_t position, tp_peer_id id) {
    return position < table->count && table->peers[position].id == id;
}

static bool peer_table_grow(tp__peer_table *table) {
    TP_ASSERT_LOCKED(&table->mutex);
    assert(table->count == table->capacity);
    uint32_t capacity = tp__doubled(table->capacity, FIRST_SIZE);
    tp_peer *larger = tp__larger_copy(table->peers, table->count, capacity, sizeof *larger);
    if (!larger) {
        return false;
    }
    tp__free(table->peers);
    table->peers = larger;
    table->capacity = capacity;
    return true;
}

tp_err tp__peer_table_add(tp__peer_table *table, const tp_peer *peer) {
    tp_err error = TP_OK;
    assert(peer->id != TP_NO_PEER && peer->size == sizeof *peer);
    tp_mutex_lock(&table->mutex);
    size_t position = peer_table_position(table, peer->id);
    if (peer_table_is_at(table, position, peer->id)) {
        table->peers[position] = *peer;
    } else if (table->count == table->capacity && !peer_table_grow(table)) {
        error = TP_ERR_NO_MEMORY;
    } else {
        memmove(&table->peers[position + 1], &table->peers[position],
            (table->count - position) * sizeof *table->peers);
        table->peers[position] = *peer;
        table->count++;
    }
    TP__VERIFY(tp__peer_table_check(table));
    tp_mutex_unlock(&table->mutex);
    return error;
}

bool tp__peer_table_remove(tp__peer_table *table, tp_peer_id id, tp_peer *removed) {
    tp_mutex_lock(&table->mutex);
    size_t position = peer_table_position(table, id);
    bool present = peer_table_is_at(table, position, id);
    if (present) {
        *removed = table->peers[position];
        table->count--;
        memmove(&table->peers[position], &table->peers[position + 1],
            (table->count - position) * sizeof *table->peers);
    }
    TP__VERIFY(tp__peer_table_check(table));
    tp_mutex_unlock(&table->mutex);
    return present;
}

bool tp__peer_table_at(tp__peer_table *table, size_t n, tp_peer *peer) {
    tp_mutex_lock(&table->mutex);
    bool present = n < table->count;
    if (present) {
        *peer = table->peers[n];
    }
    tp_mutex_unlock(&table->mutex);
    return present;
}

/* Copies into a struct of the caller, whose version may be older or newer than ours. */
static void peer_copy_out(tp_peer *to, const tp_peer *from, size_t size) {
    memcpy(to, from, size < sizeof *from ? size : sizeof *from);
    to->size = size;
}

bool tp__peer_table_find(tp__peer_table *table, tp_peer_id id, tp_peer *peer) {
    tp_mutex_lock(&table->mutex);
    size_t position = peer_table_position(table, id);
    bool present = peer_table_is_at(table, position, id);
    if (present) {
        peer_copy_out(peer, &table->peers[position], peer->size);
    }
    tp_mutex_unlock(&table->mutex);
    return present;
}

size_t tp__peer_table_list(
    tp__peer_table *table, const char *service, tp_peer *peers, size_t capacity) {
    size_t count = 0;
    size_t size = capacity ? peers->size : 0;
    tp_mutex_lock(&table->mutex);
    for (size_t i = 0; i < table->count; i++) {
        const tp_peer *peer = &table->peers[i];
        if (service && strcmp(peer->service, service) != 0) {
            continue;
        }
        if (count < capacity) {
            peer_copy_out((tp_peer *)(void *)((uint8_t *)peers + count * size), peer, size);
        }
        count++;
    }
    tp_mutex_unlock(&table->mutex);
    return count;
}
