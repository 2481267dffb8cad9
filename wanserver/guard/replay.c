/*
 * Used tokens. Any thread, under the mutex; called by the workers that check HELLOs.
 *
 * Entries are found by id, in chains. One leaves only when its room is needed and its token is
 * refused without it: by the wall clock, because it has expired or would live too long, and by the
 * steady clock, because as long as it had to live when it was used has passed. A heap of their
 * numbers keeps them in the order of the second. So, however the wall clock was set meanwhile:
 *
 *     a token that was used and is good by the clock at its use, or by the clock now, is in the
 *     table
 *
 * but for one whose entry had to make room while the clock was ahead, or afterwards while its token
 * would have lived too long, and which is good again later. `forgotten` is the latest expiry of
 * those that have left: as long as it is in the past there are none. A clock that is set back a
 * little revives none either: what expires no later than `forgotten` is refused then. After more
 * than that it would be every new token, for as long as the clock was ahead: they are taken, and
 * the log says so.
 */
#include "wanserver/guard/replay.h"

#include <stdbool.h>
#include <string.h>

#include "core/memory/memory.h"
#include "os/random.h"
#include "os/thread.h"
#include "twinport/log.h"
#include "wanserver/guard/siphash.h"

/* How many a call looks at for one that may leave. Those that must stay, because the clock was set
 * back, are put behind others; few at a time, so that no HELLO waits for a great many. */
#define LOOKS_AT_ONCE 16

/* Seconds. Corrections up to this are a matter of course, and a token with so little left of its
 * life is no loss. */
#define SMALL_STEP 10

/* Seconds until one that had to stay is looked at again: the clock may have been put right then. */
#define LOOK_AGAIN 10

typedef struct entry {
    uint8_t id[TP_TOKEN_ID_SIZE];
    uint64_t expiry; /* on the wall clock */
    uint64_t leaves; /* on the steady clock: not before */
    uint32_t next;   /* of its chain, or of the free ones */
} entry;

struct tp__replay {
    tp_mutex mutex;
    tp__hash_seed seed;
    uint64_t life; /* seconds; no token is taken that expires later */
    uint64_t forgotten;
    uint32_t room;
    uint32_t count;
    uint32_t mask; /* of `chains` */
    uint32_t free; /* the first free entry */
    uint32_t *chains;
    uint32_t *heap; /* heap[0..count-1]: entries; none leaves before heap[0] */
    entry *entries; /* 1..room; 0 ends a chain */
};

/* ---- the heap -------------------------------------------------------------------------------- */

static uint64_t leaves_at(const tp__replay *replay, uint32_t at) {
    return replay->entries[replay->heap[at]].leaves;
}

static void push(tp__replay *replay, uint32_t number) {
    uint32_t at = replay->count++;
    while (at > 0 && replay->entries[number].leaves < leaves_at(replay, (at - 1) / 2)) {
        replay->heap[at] = replay->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    replay->heap[at] = number;
}

/* Puts an entry where heap[0] is free, or wherever it belongs below. */
static void settle_from_top(tp__replay *replay, uint32_t number) {
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= replay->count) {
            break;
        }
        if (child + 1 < replay->count && leaves_at(replay, child + 1) < leaves_at(replay, child)) {
            child++;
        }
        if (leaves_at(replay, child) >= replay->entries[number].leaves) {
            break;
        }
        replay->heap[at] = replay->heap[child];
        at = child;
    }
    replay->heap[at] = number;
}

static uint32_t pop(tp__replay *replay) {
    uint32_t first = replay->heap[0];
    uint32_t last = replay->heap[--replay->count];
    settle_from_top(replay, last);
    return first;
}

/* ---- the table ------------------------------------------------------------------------------- */

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
    if (it->expiry > replay->forgotten) {
        replay->forgotten = it->expiry;
    }
}

static void remember(
    tp__replay *replay, const uint8_t *id, uint64_t expiry, uint64_t now, uint64_t steady) {
    uint32_t number = replay->free;
    entry *it = &replay->entries[number];
    uint32_t *chain = chain_of(replay, id);
    replay->free = it->next;
    memcpy(it->id, id, TP_TOKEN_ID_SIZE);
    it->expiry = expiry;
    it->leaves = steady + (expiry - now);
    it->next = *chain;
    *chain = number;
    push(replay, number);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* False: none that was looked at may leave. */
static bool make_room(tp__replay *replay, uint64_t now, uint64_t steady) {
    for (unsigned i = 0; i < LOOKS_AT_ONCE && leaves_at(replay, 0) <= steady; i++) {
        uint32_t number = replay->heap[0];
        entry *first = &replay->entries[number];
        if (first->expiry <= now || first->expiry - now > replay->life) {
            forget_first(replay);
            return true;
        }
        /* The clock was set back: it is good again. */
        uint64_t left = first->expiry - now;
        first->leaves = steady + (left < LOOK_AGAIN ? left : LOOK_AGAIN);
        settle_from_top(replay, number);
    }
    return false;
}

static void look_at_clock(tp__replay *replay, uint64_t now) {
    if (replay->forgotten > now && replay->forgotten - now > SMALL_STEP) {
        TP_LOG(TP_LOG_WARNING,
            "used tokens: the clock was set back: some that were used while it was ahead are no "
            "longer remembered and may be used again, the last of them for %llu s from now",
            (unsigned long long)(replay->forgotten - now));
        replay->forgotten = 0;
    }
}

static tp__freshness take(
    tp__replay *replay, const uint8_t *id, uint64_t expiry, uint64_t now, uint64_t steady) {
    if (expiry <= now) {
        return TP__SEEN;
    }
    if (expiry - now > replay->life) {
        return TP__LONG_LIVED;
    }
    look_at_clock(replay, now);
    if (expiry <= replay->forgotten || contains(replay, id)) {
        return TP__SEEN;
    }
    if (replay->count == replay->room && !make_room(replay, now, steady)) {
        return TP__REPLAY_FULL;
    }
    remember(replay, id, expiry, now, steady);
    return TP__FRESH;
}

tp__freshness tp__replay_take(tp__replay *replay, const uint8_t id[TP_TOKEN_ID_SIZE],
    uint64_t expiry, uint64_t now, uint64_t steady) {
    tp_mutex_lock(&replay->mutex);
    tp__freshness freshness = take(replay, id, expiry, now, steady);
    tp_mutex_unlock(&replay->mutex);
    return freshness;
}

unsigned tp__replay_count(tp__replay *replay) {
    tp_mutex_lock(&replay->mutex);
    unsigned count = replay->count;
    tp_mutex_unlock(&replay->mutex);
    return count;
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
