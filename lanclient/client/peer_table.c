/*
 * See peer_table.h.
 */
#include "lanclient/client/peer_table.h"

#include <string.h>

#include "core/memory/memory.h"

#define FIRST_ROOM 16u

void tp__known_init(tp__known *known) {
    memset(known, 0, sizeof *known);
    tp_mutex_init(&known->mutex);
}

void tp__known_destroy(tp__known *known) {
    tp__free(known->peers);
    tp_mutex_destroy(&known->mutex);
}

/* Where the id is, or belongs. */
static size_t place_of(const tp__known *known, tp_peer_id id) {
    size_t low = 0;
    size_t high = known->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known->peers[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_at(const tp__known *known, size_t place, tp_peer_id id) {
    return place < known->count && known->peers[place].id == id;
}

static bool grow(tp__known *known) {
    size_t room = known->room ? known->room * 2 : FIRST_ROOM;
    tp_peer *larger = tp__allocate(room * sizeof *larger);
    if (!larger) {
        return false;
    }
    if (known->count) {
        memcpy(larger, known->peers, known->count * sizeof *larger);
    }
    tp__free(known->peers);
    known->peers = larger;
    known->room = room;
    return true;
}

tp_err tp__known_add(tp__known *known, const tp_peer *peer) {
    tp_err error = TP_OK;
    tp_mutex_lock(&known->mutex);
    size_t place = place_of(known, peer->id);
    if (is_at(known, place, peer->id)) {
        known->peers[place] = *peer;
    } else if (known->count == known->room && !grow(known)) {
        error = TP_ERR_NO_MEMORY;
    } else {
        memmove(&known->peers[place + 1], &known->peers[place],
            (known->count - place) * sizeof *known->peers);
        known->peers[place] = *peer;
        known->count++;
    }
    tp_mutex_unlock(&known->mutex);
    return error;
}

bool tp__known_remove(tp__known *known, tp_peer_id id, tp_peer *removed) {
    tp_mutex_lock(&known->mutex);
    size_t place = place_of(known, id);
    bool there = is_at(known, place, id);
    if (there) {
        *removed = known->peers[place];
        known->count--;
        memmove(&known->peers[place], &known->peers[place + 1],
            (known->count - place) * sizeof *known->peers);
    }
    tp_mutex_unlock(&known->mutex);
    return there;
}

bool tp__known_at(tp__known *known, size_t n, tp_peer *peer) {
    tp_mutex_lock(&known->mutex);
    bool there = n < known->count;
    if (there) {
        *peer = known->peers[n];
    }
    tp_mutex_unlock(&known->mutex);
    return there;
}

/* Into a struct of the caller's, whose version may be older or newer than ours. */
static void copy_out(tp_peer *to, const tp_peer *from, size_t size) {
    memcpy(to, from, size < sizeof *from ? size : sizeof *from);
    to->size = size;
}

bool tp__known_find(tp__known *known, tp_peer_id id, tp_peer *peer) {
    tp_mutex_lock(&known->mutex);
    size_t place = place_of(known, id);
    bool there = is_at(known, place, id);
    if (there) {
        copy_out(peer, &known->peers[place], peer->size);
    }
    tp_mutex_unlock(&known->mutex);
    return there;
}

size_t tp__known_list(tp__known *known, const char *service, tp_peer *peers, size_t room) {
    size_t count = 0;
    size_t size = room ? peers->size : 0;
    tp_mutex_lock(&known->mutex);
    for (size_t i = 0; i < known->count; i++) {
        const tp_peer *peer = &known->peers[i];
        if (service && strcmp(peer->service, service) != 0) {
            continue;
        }
        if (count < room) {
            copy_out((tp_peer *)(void *)((uint8_t *)peers + count * size), peer, size);
        }
        count++;
    }
    tp_mutex_unlock(&known->mutex);
    return count;
}
