/*
 * The limits per address. Any thread, under the mutex of tp__limiter: connections begin and end on
 * any worker.
 *
 * An entry that has been given to an address stays with it until it is given to another one, so
 * there is no free list. Entries are numbered from 1; 0 ends a chain. The entries without
 * connections are in a list, from the one seen longest ago to the one seen last:
 *
 *     an entry is in the list of idle entries  <=>  its connections == 0
 */
#include "wanserver/guard/limiter.h"

#include <assert.h>
#include <string.h>

#include "core/base/index_list.h"
#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "os/random.h"
#include "os/thread.h"
#include "wanserver/guard/siphash.h"
#include "wanserver/guard/token_bucket.h"

typedef struct origin {
    uint8_t network[8]; /* IPv6: the first 64 bits; IPv4: the address and zeros */
    bool ipv4;
} origin;

typedef struct entry {
    origin origin;
    uint32_t next;       /* next entry in its chain */
    tp__index_link link; /* in the list of idle entries */
    uint32_t connections;
    tp__bucket bucket;
} entry;

struct tp__limiter {
    tp_mutex mutex;
    tp__limiter_options options;
    tp__hash_seed seed;
    uint32_t mask; /* number of `chains` - 1 */
    uint32_t used; /* entries 1..used belong to an address */
    tp__index_list idle;
    uint32_t *chains;
    entry *entries; /* numbered from 1 */
};

/* ---- idle entries ---------------------------------------------------------------------------- */

static tp__links limiter_links(const tp__limiter *limiter) {
    return (tp__links){.first = &limiter->entries[1].link,
        .stride = sizeof(entry),
        .count = limiter->options.addresses};
}

static void limiter_remove_idle(tp__limiter *limiter, uint32_t at) {
    const tp__links links = limiter_links(limiter);
    assert(limiter->entries[at].connections == 0);
    tp__index_list_remove(&limiter->idle, &links, at);
}

static void limiter_add_idle(tp__limiter *limiter, uint32_t at) {
    const tp__links links = limiter_links(limiter);
    assert(limiter->entries[at].connections == 0);
    tp__index_list_append(&limiter->idle, &links, at);
}

/* ---- the table ------------------------------------------------------------------------------- */

static origin origin_of(const tp_address *address) {
    origin from = {.ipv4 = tp_address_is_ipv4(address)};
    if (from.ipv4) {
        memcpy(from.network, address->ip + 12, 4);
    } else {
        memcpy(from.network, address->ip, 8);
    }
    return from;
}

static bool same_origin(const origin *a, const origin *b) {
    return a->ipv4 == b->ipv4 && memcmp(a->network, b->network, sizeof a->network) == 0;
}

static uint32_t *limiter_chain(tp__limiter *limiter, const origin *from) {
    uint8_t key[9];
    memcpy(key, from->network, 8);
    key[8] = from->ipv4;
    return &limiter->chains[tp__hash(&limiter->seed, key, sizeof key) & limiter->mask];
}

/* The entry of this origin; 0: it has none. */
static uint32_t limiter_find(tp__limiter *limiter, const origin *from) {
    TP_ASSERT_LOCKED(&limiter->mutex);
    uint32_t at = *limiter_chain(limiter, from);
    while (at != 0 && !same_origin(&limiter->entries[at].origin, from)) {
        at = limiter->entries[at].next;
    }
    return at;
}

static void limiter_unchain(tp__limiter *limiter, uint32_t gone) {
    TP_ASSERT_LOCKED(&limiter->mutex);
    uint32_t *link = limiter_chain(limiter, &limiter->entries[gone].origin);
    while (*link != gone) {
        assert(*link != 0);
        link = &limiter->entries[*link].next;
    }
    *link = limiter->entries[gone].next;
}

/* Returns an entry that is in no chain and no list: one that was never used, or the one without
 * connections that was seen longest ago. 0: all entries have connections. */
static uint32_t limiter_allocate(tp__limiter *limiter) {
    TP_ASSERT_LOCKED(&limiter->mutex);
    if (limiter->used < limiter->options.addresses) {
        return ++limiter->used;
    }
    uint32_t oldest = limiter->idle.first;
    if (oldest != 0) {
        limiter_remove_idle(limiter, oldest);
        limiter_unchain(limiter, oldest);
    }
    return oldest;
}

static uint32_t limiter_add(
    tp__limiter *limiter, const origin *from, uint32_t burst, uint64_t now_ms) {
    uint32_t at = limiter_allocate(limiter);
    assert(at <= limiter->used && limiter->used <= limiter->options.addresses);
    if (at != 0) {
        uint32_t *chain = limiter_chain(limiter, from);
        limiter->entries[at] =
            (entry){.origin = *from, .next = *chain, .bucket = tp__bucket_full(burst, now_ms)};
        *chain = at;
        limiter_add_idle(limiter, at);
    }
    if (at == limiter->options.addresses) { /* once for each filling of the table */
        TP__VERIFY(tp__limiter_check(limiter));
    }
    return at;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static bool limiter_is_on(const tp__limiter *limiter) {
    return limiter->options.rate > 0 || limiter->options.connections > 0;
}

static tp__admission limiter_judge(
    const tp__limiter *limiter, entry *one, uint32_t burst, uint64_t now_ms) {
    const tp__limiter_options *options = &limiter->options;
    if (options->connections > 0 && one->connections >= options->connections) {
        return TP__TOO_MANY;
    }
    if (options->rate > 0 && !tp__bucket_take(&one->bucket, 1, options->rate, burst, now_ms)) {
        return TP__TOO_FAST;
    }
    return TP__ADMITTED;
}

static tp__admission limiter_admit(
    tp__limiter *limiter, const origin *from, uint64_t now_ms, uint64_t stall_ms) {
    TP_ASSERT_LOCKED(&limiter->mutex);
    const tp__limiter_options *options = &limiter->options;
    uint32_t burst = options->rate > 0
                         ? tp__bucket_capacity(options->rate, options->burst, stall_ms)
                         : options->burst;
    uint32_t at = limiter_find(limiter, from);
    if (at == 0) {
        at = limiter_add(limiter, from, burst, now_ms);
    }
    if (at == 0) {
        return TP__TOO_MANY_ADDRESSES;
    }
    entry *one = &limiter->entries[at];
    tp__admission admission = limiter_judge(limiter, one, burst, now_ms);
    if (one->connections == 0) {
        limiter_remove_idle(limiter, at);
        if (admission != TP__ADMITTED) {
            limiter_add_idle(limiter, at); /* it is now the one seen last */
        }
    }
    one->connections += admission == TP__ADMITTED;
    assert(options->connections == 0 || one->connections <= options->connections);
    return admission;
}

tp__admission tp__limiter_admit(
    tp__limiter *limiter, const tp_address *address, uint64_t now_ms, uint64_t stall_ms) {
    if (!limiter_is_on(limiter)) {
        return TP__ADMITTED;
    }
    const origin from = origin_of(address);
    tp_mutex_lock(&limiter->mutex);
    tp__admission admission = limiter_admit(limiter, &from, now_ms, stall_ms);
    tp_mutex_unlock(&limiter->mutex);
    return admission;
}

void tp__limiter_leave(tp__limiter *limiter, const tp_address *address) {
    if (!limiter_is_on(limiter)) {
        return;
    }
    const origin from = origin_of(address);
    tp_mutex_lock(&limiter->mutex);
    uint32_t at = limiter_find(limiter, &from);
    if (at != 0 && limiter->entries[at].connections > 0 &&
        --limiter->entries[at].connections == 0) {
        limiter_add_idle(limiter, at);
    }
    tp_mutex_unlock(&limiter->mutex);
}

unsigned tp__limiter_connections(tp__limiter *limiter, const tp_address *address) {
    const origin from = origin_of(address);
    tp_mutex_lock(&limiter->mutex);
    uint32_t at = limiter_find(limiter, &from);
    unsigned connections = at == 0 ? 0 : limiter->entries[at].connections;
    tp_mutex_unlock(&limiter->mutex);
    return connections;
}

unsigned tp__limiter_addresses(tp__limiter *limiter) {
    tp_mutex_lock(&limiter->mutex);
    unsigned addresses = limiter->used;
    tp_mutex_unlock(&limiter->mutex);
    return addresses;
}

/* ---- the check ------------------------------------------------------------------------------- */

/* The entries of one chain. Counts them, and those without connections. */
static const char *limiter_chain_check(
    tp__limiter *limiter, const uint32_t *chain, uint32_t *chained, uint32_t *idle) {
    for (uint32_t at = *chain; at != 0; at = limiter->entries[at].next) {
        TP__INVARIANT(at <= limiter->used && *chained < limiter->used);
        const entry *one = &limiter->entries[at];
        TP__INVARIANT(limiter_chain(limiter, &one->origin) == chain);
        for (uint32_t before = *chain; before != at; before = limiter->entries[before].next) {
            TP__INVARIANT(!same_origin(&limiter->entries[before].origin, &one->origin));
        }
        unsigned most = limiter->options.connections;
        TP__INVARIANT(most == 0 || one->connections <= most);
        TP__INVARIANT(one->bucket.thousandths < 1000);
        *idle += one->connections == 0;
        ++*chained;
    }
    return NULL;
}

/* Exactly the `idle` entries without connections are in the list. */
static const char *idle_list_check(const tp__limiter *limiter, uint32_t idle) {
    const tp__links links = limiter_links(limiter);
    const char *broken = tp__index_list_check(&limiter->idle, &links);
    for (uint32_t at = limiter->idle.first; !broken && at != 0;) {
        TP__INVARIANT(at <= limiter->used);
        TP__INVARIANT(limiter->entries[at].connections == 0);
        at = limiter->entries[at].link.next;
    }
    TP__INVARIANT(broken || limiter->idle.count == idle);
    return broken;
}

const char *tp__limiter_check(tp__limiter *limiter) {
    uint32_t chained = 0;
    uint32_t idle = 0;
    TP__INVARIANT(limiter->used <= limiter->options.addresses);
    for (uint32_t i = 0; i <= limiter->mask; i++) {
        const char *broken = limiter_chain_check(limiter, &limiter->chains[i], &chained, &idle);
        if (broken) {
            return broken;
        }
    }
    TP__INVARIANT(limiter->used == chained);
    return idle_list_check(limiter, idle);
}

/* ---- life ------------------------------------------------------------------------------------ */

tp_err tp__limiter_create(const tp__limiter_options *options, tp__limiter **limiter) {
    *limiter = NULL;
    if ((options->rate > 0 && options->burst == 0) || options->addresses == 0 ||
        options->addresses >= (uint32_t)1 << 31) {
        return TP_ERR_INVALID;
    }
    tp__limiter *made = tp__allocate_zeroed(1, sizeof *made);
    if (made == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    uint32_t chains = tp__hash_chains(options->addresses);
    made->options = *options;
    made->mask = chains - 1;
    made->chains = tp__allocate_zeroed(chains, sizeof *made->chains);
    made->entries = tp__allocate_zeroed((size_t)options->addresses + 1, sizeof *made->entries);
    if (made->chains == NULL || made->entries == NULL) {
        tp__free(made->entries);
        tp__free(made->chains);
        tp__free(made);
        return TP_ERR_NO_MEMORY;
    }
    tp_random_bytes(&made->seed, sizeof made->seed);
    tp_mutex_init(&made->mutex);
    *limiter = made;
    return TP_OK;
}

void tp__limiter_destroy(tp__limiter *limiter) {
    if (limiter != NULL) {
        TP__VERIFY(tp__limiter_check(limiter));
        tp_mutex_destroy(&limiter->mutex);
        tp__free(limiter->entries);
        tp__free(limiter->chains);
        tp__free(limiter);
    }
}
