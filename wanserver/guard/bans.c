/*
 * Bans. Any thread, under the mutex; the accept path asks, whoever bans and lifts writes.
 *
 * A ban is found by its network, prefix and length, in a chain; so an address is looked up once for
 * each length of which there is a ban, with its bits behind that length cut off. A ban that has
 * expired leaves when it is met, or when its place is needed.
 */
#include "wanserver/guard/bans.h"

#include <string.h>

#include "core/memory/memory.h"
#include "os/random.h"
#include "os/thread.h"
#include "wanserver/guard/siphash.h"

#define CHAINS     (2 * TP__BANS_MAX)
#define BITS_OF_IP 128u

typedef struct ban {
    tp_network network; /* without bits behind its length */
    uint16_t next;      /* of its chain, or of the free ones */
    uint64_t until_ms;  /* 0: until it is lifted */
} ban;

_Static_assert(TP__BANS_MAX < UINT16_MAX, "bans are numbered by uint16_t");
_Static_assert((CHAINS & (CHAINS - 1)) == 0, "a mask finds the chain");

struct tp__bans {
    tp_mutex mutex;
    tp__hash_seed seed;
    unsigned count;
    uint16_t free;                      /* the first free ban */
    uint16_t of_length[BITS_OF_IP + 1]; /* bans by length; their sum is `count` */
    uint16_t chains[CHAINS];
    ban bans[TP__BANS_MAX + 1]; /* from 1; 0 ends a chain */
};

/* ---- the table ------------------------------------------------------------------------------- */

static tp_network network_of(const uint8_t ip[16], unsigned bits) {
    tp_network network = {.bits = (uint8_t)bits};
    memcpy(network.ip, ip, bits / 8);
    if (bits % 8 != 0) {
        network.ip[bits / 8] = (uint8_t)(ip[bits / 8] & 0xff00u >> bits % 8);
    }
    return network;
}

static bool same_network(const tp_network *a, const tp_network *b) {
    return a->bits == b->bits && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

static uint16_t *chain_of(tp__bans *bans, const tp_network *network) {
    uint8_t key[17];
    memcpy(key, network->ip, 16);
    key[16] = network->bits;
    return &bans->chains[tp__hash(&bans->seed, key, sizeof key) & (CHAINS - 1)];
}

/* What points to it in its chain; to 0 if it is not there. */
static uint16_t *find(tp__bans *bans, const tp_network *network) {
    uint16_t *link = chain_of(bans, network);
    while (*link != 0 && !same_network(&bans->bans[*link].network, network)) {
        link = &bans->bans[*link].next;
    }
    return link;
}

static void leave(tp__bans *bans, uint16_t *link) {
    uint16_t gone = *link;
    ban *it = &bans->bans[gone];
    *link = it->next;
    it->next = bans->free;
    bans->free = gone;
    bans->of_length[it->network.bits]--;
    bans->count--;
}

static bool is_over(const ban *it, uint64_t now_ms) {
    return it->until_ms != 0 && it->until_ms <= now_ms;
}

/* Whether it is banned; if it was, its ban leaves. */
static bool is_banned(tp__bans *bans, const tp_network *network, uint64_t now_ms) {
    uint16_t *link = find(bans, network);
    if (*link == 0) {
        return false;
    }
    if (is_over(&bans->bans[*link], now_ms)) {
        leave(bans, link);
        return false;
    }
    return true;
}

static void clear_out(tp__bans *bans, uint64_t now_ms) {
    for (unsigned i = 0; i < CHAINS; i++) {
        uint16_t *link = &bans->chains[i];
        while (*link != 0) {
            if (is_over(&bans->bans[*link], now_ms)) {
                leave(bans, link);
            } else {
                link = &bans->bans[*link].next;
            }
        }
    }
}

static void clear(tp__bans *bans) {
    memset(bans->chains, 0, sizeof bans->chains);
    memset(bans->of_length, 0, sizeof bans->of_length);
    bans->count = 0;
    bans->free = 0;
    for (uint16_t i = TP__BANS_MAX; i > 0; i--) {
        bans->bans[i].next = bans->free;
        bans->free = i;
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

static tp_err add(tp__bans *bans, const tp_network *network, uint64_t until_ms, uint64_t now_ms) {
    uint16_t *link = find(bans, network);
    if (*link == 0) {
        if (bans->free == 0) {
            clear_out(bans, now_ms);
            link = find(bans, network);
        }
        if (bans->free == 0) {
            return TP_ERR_FULL;
        }
        uint16_t number = bans->free;
        bans->free = bans->bans[number].next;
        bans->bans[number] = (ban){.network = *network};
        *link = number;
        bans->of_length[network->bits]++;
        bans->count++;
    }
    bans->bans[*link].until_ms = until_ms;
    return TP_OK;
}

static bool is_network(const tp_network *network) {
    if (network->bits > BITS_OF_IP) {
        return false;
    }
    const tp_network cut = network_of(network->ip, network->bits);
    return same_network(&cut, network);
}

tp_err tp__bans_add(tp__bans *bans, const tp_network *network, uint64_t until_ms, uint64_t now_ms) {
    if (!is_network(network)) {
        return TP_ERR_INVALID;
    }
    tp_mutex_lock(&bans->mutex);
    tp_err error = add(bans, network, until_ms, now_ms);
    tp_mutex_unlock(&bans->mutex);
    return error;
}

bool tp__ban_until(uint64_t seconds, uint64_t now_ms, uint64_t *until_ms) {
    if (seconds > (UINT64_MAX - now_ms) / 1000) {
        return false;
    }
    *until_ms = seconds ? now_ms + seconds * 1000 : 0;
    return true;
}

tp_err tp__bans_replace(tp__bans *bans, const tp_ban *list, size_t count, uint64_t now_ms) {
    uint64_t until_ms;
    if (count > TP__BANS_MAX) {
        return TP_ERR_FULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_network(&list[i].network) || !tp__ban_until(list[i].seconds, now_ms, &until_ms)) {
            return TP_ERR_INVALID;
        }
    }
    tp_mutex_lock(&bans->mutex);
    clear(bans);
    for (size_t i = 0; i < count; i++) { /* nothing fails: it has been looked at, and has room */
        (void)tp__ban_until(list[i].seconds, now_ms, &until_ms);
        (void)add(bans, &list[i].network, until_ms, now_ms);
    }
    tp_mutex_unlock(&bans->mutex);
    return TP_OK;
}

bool tp__bans_lift(tp__bans *bans, const tp_network *network, uint64_t now_ms) {
    tp_mutex_lock(&bans->mutex);
    bool banned = network->bits <= BITS_OF_IP && is_banned(bans, network, now_ms);
    if (banned) {
        leave(bans, find(bans, network));
    }
    tp_mutex_unlock(&bans->mutex);
    return banned;
}

static bool any_contains(tp__bans *bans, const tp_address *address, uint64_t now_ms) {
    for (unsigned bits = 0; bits <= BITS_OF_IP; bits++) {
        if (bans->of_length[bits] > 0) {
            const tp_network network = network_of(address->ip, bits);
            if (is_banned(bans, &network, now_ms)) {
                return true;
            }
        }
    }
    return false;
}

bool tp__bans_admit(tp__bans *bans, const tp_address *address, uint64_t now_ms) {
    tp_mutex_lock(&bans->mutex);
    bool admitted = bans->count == 0 || !any_contains(bans, address, now_ms);
    tp_mutex_unlock(&bans->mutex);
    return admitted;
}

unsigned tp__bans_count(tp__bans *bans) {
    tp_mutex_lock(&bans->mutex);
    unsigned count = bans->count;
    tp_mutex_unlock(&bans->mutex);
    return count;
}

/* ---- life ------------------------------------------------------------------------------------ */

tp_err tp__bans_create(tp__bans **bans) {
    tp__bans *made = tp__allocate_zeroed(1, sizeof *made);
    *bans = made;
    if (made == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    clear(made);
    tp_random_bytes(&made->seed, sizeof made->seed);
    tp_mutex_init(&made->mutex);
    return TP_OK;
}

void tp__bans_destroy(tp__bans *bans) {
    if (bans != NULL) {
        tp_mutex_destroy(&bans->mutex);
        tp__free(bans);
    }
}
