/*
 * Used tokens. Any thread, under the mutex of tp__replay; called by the workers that check HELLOs.
 *
 * Entries are found by token id, in hash chains. An entry is removed only when its slot is needed
 * and its token would be refused without it: by the wall clock, because the token has expired or
 * would live too long, and by the steady clock, because the lifetime that the token had when it was
 * used has passed. A heap of entry numbers orders them by the latter time. So, however the wall
 * clock was set meanwhile:
 *
 *     a token that was used and is valid, by the clock at its use or by the clock now,
 *     is in the table
 *
 * There is one exception: a token whose entry was removed while the clock was ahead, or later while
 * the token would have lived too long, and that becomes valid again. `forgotten` is the latest
 * expiry of all removed entries; while it is in the past, no such token exists. When the clock is
 * set back a little, these tokens are still refused: a token that expires no later than `forgotten`
 * is refused. When it is set back further, that rule would refuse every new token for as long as
 * the clock was ahead; so they are accepted, and a warning is logged.
 */
#include "wanserver/guard/replay.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/heap.h"
#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "os/random.h"
#include "os/thread.h"
#include "twinport/log.h"
#include "wanserver/guard/siphash.h"

/* How many entries one call examines for one to remove. An entry that must stay, because the clock
 * was set back, moves down the heap; few are examined, so that no HELLO waits for long. */
#define EVICT_TRIES 16

/* Seconds. Clock corrections of this size are normal, and a token with so little of its life left
 * is no loss. */
#define SMALL_STEP_S 10

/* Seconds until an entry that had to stay is examined again: the clock may be right by then. */
#define RECHECK_S 10

typedef struct entry {
    uint8_t id[TP_TOKEN_ID_SIZE];
    uint64_t expiry;     /* by the wall clock */
    uint64_t keep_until; /* by the steady clock: the entry is not removed before */
    uint32_t next;       /* next entry in its chain, or in the free list */
} entry;

struct tp__replay {
    tp_mutex mutex;
    tp__hash_seed seed;
    uint64_t life; /* seconds; a token with more time to its expiry is not accepted */
    uint64_t forgotten;
    uint32_t capacity;
    uint32_t count;
    uint32_t mask; /* number of `chains` - 1 */
    uint32_t free; /* first in the free list */
    uint32_t *chains;
    uint32_t *heap; /* heap[0..count-1]: entry numbers; heap[0] has the least keep_until */
    entry *entries; /* numbered 1..capacity; 0 ends a chain */
};

/* ---- the heap -------------------------------------------------------------------------------- */

static bool replay_before(const void *left, const void *right, const void *entries) {
    const uint32_t *a = left;
    const uint32_t *b = right;
    const entry *of = entries;
    return of[*a].keep_until < of[*b].keep_until;
}

static tp__heap_order replay_order(const tp__replay *replay) {
    return (tp__heap_order){
        .size = sizeof *replay->heap, .before = replay_before, .context = replay->entries};
}

static void heap_push(tp__replay *replay, uint32_t number) {
    const tp__heap_order order = replay_order(replay);
    assert(number != 0 && replay->count < replay->capacity);
    tp__heap_push(&order, replay->heap, replay->count++, &number);
}

static uint32_t heap_pop(tp__replay *replay) {
    const tp__heap_order order = replay_order(replay);
    assert(replay->count > 0);
    uint32_t first = replay->heap[0];
    tp__heap_remove_first(&order, replay->heap, replay->count--);
    return first;
}

/* Moves the first entry, whose keep_until has grown, to where the order has it. */
static void heap_reorder_first(tp__replay *replay) {
    const tp__heap_order order = replay_order(replay);
    uint32_t number = replay->heap[0];
    tp__heap_replace_first(&order, replay->heap, replay->count, &number);
}

/* ---- the table ------------------------------------------------------------------------------- */

static uint32_t *replay_chain(tp__replay *replay, const uint8_t *id) {
    return &replay->chains[tp__hash(&replay->seed, id, TP_TOKEN_ID_SIZE) & replay->mask];
}

static bool replay_contains(tp__replay *replay, const uint8_t *id) {
    TP_ASSERT_LOCKED(&replay->mutex);
    uint32_t at = *replay_chain(replay, id);
    while (at != 0 && memcmp(replay->entries[at].id, id, TP_TOKEN_ID_SIZE) != 0) {
        at = replay->entries[at].next;
    }
    return at != 0;
}

static void replay_remove_first(tp__replay *replay) {
    TP_ASSERT_LOCKED(&replay->mutex);
    uint32_t gone = heap_pop(replay);
    entry *it = &replay->entries[gone];
    uint32_t *link = replay_chain(replay, it->id);
    while (*link != gone) {
        assert(*link != 0);
        link = &replay->entries[*link].next;
    }
    *link = it->next;
    it->next = replay->free;
    replay->free = gone;
    if (it->expiry > replay->forgotten) {
        replay->forgotten = it->expiry;
    }
}

static void replay_insert(
    tp__replay *replay, const uint8_t *id, uint64_t expiry, uint64_t now, uint64_t steady) {
    TP_ASSERT_LOCKED(&replay->mutex);
    uint32_t number = replay->free;
    assert(number != 0 && number <= replay->capacity); /* not full: one is free */
    assert(expiry > now && expiry - now <= replay->life);
    entry *it = &replay->entries[number];
    uint32_t *chain = replay_chain(replay, id);
    replay->free = it->next;
    memcpy(it->id, id, TP_TOKEN_ID_SIZE);
    it->expiry = expiry;
    it->keep_until = steady + (expiry - now);
    it->next = *chain;
    *chain = number;
    heap_push(replay, number);
    if (number == replay->capacity) { /* once for each filling of the table */
        TP__VERIFY(tp__replay_check(replay));
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Removes one entry. False: none of those examined may be removed. */
static bool replay_evict(tp__replay *replay, uint64_t now, uint64_t steady) {
    TP_ASSERT_LOCKED(&replay->mutex);
    assert(replay->count == replay->capacity);
    for (unsigned i = 0; i < EVICT_TRIES && replay->entries[replay->heap[0]].keep_until <= steady;
         i++) {
        entry *first = &replay->entries[replay->heap[0]];
        if (first->expiry <= now || first->expiry - now > replay->life) {
            replay_remove_first(replay);
            return true;
        }
        /* the clock was set back, and the token is valid again */
        uint64_t left = first->expiry - now;
        first->keep_until = steady + (left < RECHECK_S ? left : RECHECK_S);
        heap_reorder_first(replay);
    }
    return false;
}

static void replay_check_clock(tp__replay *replay, uint64_t now) {
    TP_ASSERT_LOCKED(&replay->mutex);
    if (replay->forgotten > now && replay->forgotten - now > SMALL_STEP_S) {
        TP_LOG(TP_LOG_WARNING,
            "used tokens: clock set back: some tokens used while it was ahead are forgotten and "
            "can be used again, for up to %llu s from now",
            (unsigned long long)(replay->forgotten - now));
        replay->forgotten = 0;
        TP__VERIFY(tp__replay_check(replay));
    }
}

static tp__freshness replay_take(
    tp__replay *replay, const uint8_t *id, uint64_t expiry, uint64_t now, uint64_t steady) {
    TP_ASSERT_LOCKED(&replay->mutex);
    if (expiry <= now) {
        return TP__SEEN;
    }
    if (expiry - now > replay->life) {
        return TP__LONG_LIVED;
    }
    replay_check_clock(replay, now);
    if (expiry <= replay->forgotten || replay_contains(replay, id)) {
        return TP__SEEN;
    }
    if (replay->count == replay->capacity && !replay_evict(replay, now, steady)) {
        return TP__REPLAY_FULL;
    }
    replay_insert(replay, id, expiry, now, steady);
    return TP__FRESH;
}

tp__freshness tp__replay_take(tp__replay *replay, const uint8_t id[TP_TOKEN_ID_SIZE],
    uint64_t expiry, uint64_t now, uint64_t steady) {
    tp_mutex_lock(&replay->mutex);
    tp__freshness freshness = replay_take(replay, id, expiry, now, steady);
    tp_mutex_unlock(&replay->mutex);
    return freshness;
}

unsigned tp__replay_count(tp__replay *replay) {
    tp_mutex_lock(&replay->mutex);
    unsigned count = replay->count;
    tp_mutex_unlock(&replay->mutex);
    return count;
}

/* ---- the check ------------------------------------------------------------------------------- */

/* The entries of one chain. Counts them, and adds up their numbers. */
static const char *replay_chain_check(
    tp__replay *replay, const uint32_t *chain, uint32_t *chained, uint64_t *sum) {
    for (uint32_t at = *chain; at != 0; at = replay->entries[at].next) {
        TP__INVARIANT(at <= replay->capacity && *chained < replay->count);
        const uint8_t *id = replay->entries[at].id;
        TP__INVARIANT(replay_chain(replay, id) == chain);
        for (uint32_t before = *chain; before != at; before = replay->entries[before].next) {
            TP__INVARIANT(memcmp(replay->entries[before].id, id, TP_TOKEN_ID_SIZE) != 0);
        }
        *sum += at;
        ++*chained;
    }
    return NULL;
}

/* The order of the heap; `sum`: of the entries' numbers. */
static const char *replay_heap_check(const tp__replay *replay, uint64_t sum) {
    for (uint32_t i = 0; i < replay->count; i++) {
        TP__INVARIANT(replay->heap[i] >= 1 && replay->heap[i] <= replay->capacity);
        sum -= replay->heap[i];
    }
    TP__INVARIANT(sum == 0); /* the same entries as in the chains */
    const tp__heap_order order = replay_order(replay);
    return tp__heap_check(&order, replay->heap, replay->count);
}

const char *tp__replay_check(tp__replay *replay) {
    uint32_t chained = 0;
    uint32_t unused = 0;
    uint64_t sum = 0;
    TP__INVARIANT(replay->count <= replay->capacity);
    for (uint32_t i = 0; i <= replay->mask; i++) {
        const char *broken = replay_chain_check(replay, &replay->chains[i], &chained, &sum);
        if (broken) {
            return broken;
        }
    }
    TP__INVARIANT(replay->count == chained);
    for (uint32_t at = replay->free; at != 0; at = replay->entries[at].next) {
        TP__INVARIANT(at <= replay->capacity && unused < replay->capacity);
        unused++;
    }
    TP__INVARIANT(chained + unused == replay->capacity); /* each is used or free */
    return replay_heap_check(replay, sum);
}

/* ---- life ------------------------------------------------------------------------------------ */

tp_err tp__replay_create(unsigned tokens, unsigned life, tp__replay **replay) {
    *replay = NULL;
    if (tokens == 0 || tokens >= (uint32_t)1 << 31 || life == 0) {
        return TP_ERR_INVALID;
    }
    tp__replay *made = tp__allocate_zeroed(1, sizeof *made);
    if (made == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    uint32_t chains = tp__hash_chains(tokens);
    made->life = life;
    made->capacity = tokens;
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
        if (replay->count > 0) { /* else it may have been created in part */
            TP__VERIFY(tp__replay_check(replay));
        }
        tp_mutex_destroy(&replay->mutex);
        tp__free(replay->entries);
        tp__free(replay->heap);
        tp__free(replay->chains);
        tp__free(replay);
    }
}
