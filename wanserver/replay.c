/*
 * Used tokens. Any thread, under the mutex; called by the workers that check HELLOs.
 *
 * Entries are found by id, in chains, and leave in the order in which they expire, which a heap of their
 * numbers keeps. `forgotten` is the latest expiry of those that have left, so at any time:
 *
 *     a token that was used and expires after `forgotten` is in the table
 *
 * and a token that expires later than that and is not in the table was never used. While the clock
 * goes forward, `forgotten` is in the past, and only expired tokens fall under it.
 */
#include "wanserver/replay.h"

#include <stdbool.h>
#include <string.h>

#include "core/memory.h"
#include "os/random.h"
#include "os/thread.h"
#include "wanserver/hash.h"

/* How many expired ones leave at each call: more than come, so that they all do, and few, so that no
 * HELLO waits for all of a great many that expired together. */
#define LEAVE_AT_ONCE 4

typedef struct entry {
    uint8_t id[TP_TOKEN_ID_SIZE];
    uint64_t expiry;
    uint32_t next; /* of its chain, or of the free ones */
} entry;

struct tp__replay {
    tp_mutex mutex;
    tp__hash_seed seed;
    uint64_t forgotten;
    uint32_t room;
    uint32_t count;
    uint32_t mask; /* of `chains` */
    uint32_t free; /* the first free entry */
    uint32_t *chains;
    uint32_t *heap; /* heap[0..count-1]: entries; none expires before heap[0] */
    entry *entries; /* 1..room; 0 ends a chain */
};

/* ---- the heap --------------------------------------------------------------------------------- */

static uint64_t expiry_at(const tp__replay *replay, uint32_t at) {
    return replay->entries[replay->heap[at]].expiry;
}

static void push(tp__replay *replay, uint32_t number) {
    uint32_t at = replay->count++;
    while (at > 0 && replay->entries[number].expiry < expiry_at(replay, (at - 1) / 2)) {
        replay->heap[at] = replay->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    replay->heap[at] = number;
}

static uint32_t pop(tp__replay *replay) {
    uint32_t first = replay->heap[0];
    uint32_t last = replay->heap[--replay->count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= replay->count) {
            break;
        }
        if (child + 1 < replay->count && expiry_at(replay, child + 1) < expiry_at(replay, child)) {
            child++;
        }
        if (expiry_at(replay, child) >= replay->entries[last].expiry) {
            break;
        }
        replay->heap[at] = replay->heap[child];
        at = child;
    }
    replay->heap[at] = last;
    return first;
}

/* ---- the table -------------------------------------------------------------------------------- */

static uint32_t *chain_of(tp__replay *replay, const uint8_t *id) {
    return &replay->chains[tp__hash(&replay->seed, id, TP_TOKEN_ID_SIZE) & replay->mask];
}

static bool contains(tp__replay *replay, const uint8_t *id) {
    uint32_t at = *chain_of(replay, id);
    while (at != 0 && memcmp(replay->entries[at].id, id, TP_TOKEN_ID_SIZE) != 0) {
        at = replay->entries[at].next;
    }
    return at != 0;
}

static void forget_first(tp__replay *replay) {
    uint32_t gone = pop(replay);
    entry *it = &replay->entries[gone];
    uint32_t *link = chain_of(replay, it->id);
    while (*link != gone) {
        link = &replay->entries[*link].next;
    }
    *link = it->next;
    it->next = replay->free;
    replay->free = gone;
    replay->forgotten = it->expiry; /* never earlier than before: such were refused */
}

static void remember(tp__replay *replay, const uint8_t *id, uint64_t expiry) {
    uint32_t number = replay->free;
    entry *it = &replay->entries[number];
    uint32_t *chain = chain_of(replay, id);
    replay->free = it->next;
    memcpy(it->id, id, TP_TOKEN_ID_SIZE);
    it->expiry = expiry;
    it->next = *chain;
    *chain = number;
    push(replay, number);
}

/* ---- calls ------------------------------------------------------------------------------------ */

static tp__freshness take(tp__replay *replay, const uint8_t *id, uint64_t expiry, uint64_t now) {
    for (unsigned i = 0; i < LEAVE_AT_ONCE && replay->count > 0 && expiry_at(replay, 0) <= now;
         i++) {
        forget_first(replay);
    }
    if (expiry <= now || expiry <= replay->forgotten || contains(replay, id)) {
        return TP__SEEN;
    }
    if (replay->count == replay->room) {
        return TP__REPLAY_FULL;
    }
    remember(replay, id, expiry);
    return TP__FRESH;
}

tp__freshness tp__replay_take(
    tp__replay *replay, const uint8_t id[TP_TOKEN_ID_SIZE], uint64_t expiry, uint64_t now) {
    tp_mutex_lock(&replay->mutex);
    tp__freshness freshness = take(replay, id, expiry, now);
    tp_mutex_unlock(&replay->mutex);
    return freshness;
}

unsigned tp__replay_count(tp__replay *replay) {
    tp_mutex_lock(&replay->mutex);
    unsigned count = replay->count;
    tp_mutex_unlock(&replay->mutex);
    return count;
}

/* ---- life ------------------------------------------------------------------------------------- */

tp_err tp__replay_create(unsigned tokens, tp__replay **replay) {
    *replay = NULL;
    if (tokens == 0 || tokens >= (uint32_t)1 << 31) {
        return TP_ERR_INVALID;
    }
    tp__replay *made = tp__allocate_zeroed(1, sizeof *made);
    if (made == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    uint32_t chains = tp__hash_chains(tokens);
    made->room = tokens;
    made->mask = chains - 1;
    made->chains = tp__allocate_zeroed(chains, sizeof *made->chains);
    made->heap = tp__allocate_zeroed(tokens, sizeof *made->heap);
    made->entries = tp__allocate_zeroed((size_t)tokens + 1, sizeof *made->entries);
    tp_mutex_init(&made->mutex);
    if (made->chains == NULL || made->heap == NULL || made->entries == NULL) {
        tp__replay_destroy(made);
        return TP_ERR_NO_MEMORY;
    }
    for (uint32_t i = tokens; i > 0; i--) {
        made->entries[i].next = made->free;
        made->free = i;
    }
    tp_random_bytes(&made->seed, sizeof made->seed);
    *replay = made;
    return TP_OK;
}

void tp__replay_destroy(tp__replay *replay) {
    if (replay != NULL) {
        tp_mutex_destroy(&replay->mutex);
        tp__free(replay->entries);
        tp__free(replay->heap);
        tp__free(replay->chains);
        tp__free(replay);
    }
}
