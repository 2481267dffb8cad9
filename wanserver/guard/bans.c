/*
 * Bans. Any thread, under the mutex of tp__bans: the accept path reads; the calls that ban and lift
 * write.
 *
 * A ban is found by its network (prefix and length) in a hash chain. So an address is looked up
 * once for each prefix length that has a ban, with its bits behind that length cut off. A ban that
 * has expired is removed when a look-up meets it, or when its slot is needed.
 */
#include "wanserver/guard/bans.h"

#include <assert.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "os/random.h"
#include "os/thread.h"
#include "wanserver/guard/siphash.h"

#define CHAINS     (2 * TP__BANS_MAX)
#define BITS_OF_IP 128u

typedef struct ban {
    tp_network network; /* its bits behind the length are 0 */
    uint16_t next;      /* next ban in its chain, or in the free list */
    uint64_t until_ms;  /* 0: until it is lifted */
} ban;

_Static_assert(TP__BANS_MAX < UINT16_MAX, "bans are numbered by uint16_t");
_Static_assert((CHAINS & (CHAINS - 1)) == 0, "a mask finds the chain");

struct tp__bans {
    tp_mutex mutex;
    tp__hash_seed seed;
    unsigned count;
    uint16_t free;                      /* first in the free list */
    uint16_t of_length[BITS_OF_IP + 1]; /* bans of each prefix length; the sum is `count` */
    uint16_t chains[CHAINS];
    ban bans[TP__BANS_MAX + 1]; /* numbered from 1; 0 ends a chain */
};

/* ---- the table ------------------------------------------------------------------------------- */

static tp_network network_of(const uint8_t ip[16], unsigned bits) {
    assert(bits <= BITS_OF_IP);
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

static uint16_t *bans_chain(tp__bans *bans, const tp_network *network) {
    uint8_t key[17];
    memcpy(key, network->ip, 16);
    key[16] = network->bits;
    return &bans->chains[tp__hash(&bans->seed, key, sizeof key) & (CHAINS - 1)];
}

/* The link in the chain that points to the ban of this network; it is 0 if there is none. */
static uint16_t *bans_find(tp__bans *bans, const tp_network *network) {
    TP_ASSERT_LOCKED(&bans->mutex);
    uint16_t *link = bans_chain(bans, network);
    while (*link != 0 && !same_network(&bans->bans[*link].network, network)) {
        link = &bans->bans[*link].next;
    }
    return link;
}

static void bans_remove(tp__bans *bans, uint16_t *link) {
    TP_ASSERT_LOCKED(&bans->mutex);
    uint16_t gone = *link;
    ban *it = &bans->bans[gone];
    assert(gone >= 1 && gone <= TP__BANS_MAX);
    assert(bans->count > 0 && bans->of_length[it->network.bits] > 0);
    *link = it->next;
    it->next = bans->free;
    bans->free = gone;
    bans->of_length[it->network.bits]--;
    bans->count--;
}

static bool ban_expired(const ban *it, uint64_t now_ms) {
    return it->until_ms != 0 && it->until_ms <= now_ms;
}

/* Whether exactly this network is banned. Removes its ban if it has expired. */
static bool bans_check_network(tp__bans *bans, const tp_network *network, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&bans->mutex);
    uint16_t *link = bans_find(bans, network);
    if (*link == 0) {
        return false;
    }
    if (ban_expired(&bans->bans[*link], now_ms)) {
        bans_remove(bans, link);
        return false;
    }
    return true;
}

static void bans_remove_expired(tp__bans *bans, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&bans->mutex);
    for (unsigned i = 0; i < CHAINS; i++) {
        uint16_t *link = &bans->chains[i];
        while (*link != 0) {
            if (ban_expired(&bans->bans[*link], now_ms)) {
                bans_remove(bans, link);
            } else {
                link = &bans->bans[*link].next;
            }
        }
    }
    TP__VERIFY(tp__bans_check(bans));
}

static void bans_clear(tp__bans *bans) {
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

static tp_err bans_insert(
    tp__bans *bans, const tp_network *network, uint64_t until_ms, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&bans->mutex);
    uint16_t *link = bans_find(bans, network);
    if (*link == 0) {
        if (bans->free == 0) {
            bans_remove_expired(bans, now_ms);
            link = bans_find(bans, network);
        }
        if (bans->free == 0) {
            return TP_ERR_FULL;
        }
        uint16_t number = bans->free;
        assert(bans->count < TP__BANS_MAX);
        bans->free = bans->bans[number].next;
        bans->bans[number] = (ban){.network = *network};
        *link = number;
        bans->of_length[network->bits]++;
        bans->count++;
    }
    bans->bans[*link].until_ms = until_ms;
    return TP_OK;
}

static bool network_valid(const tp_network *network) {
    if (network->bits > BITS_OF_IP) {
        return false;
    }
    const tp_network cut = network_of(network->ip, network->bits);
    return same_network(&cut, network);
}

tp_err tp__bans_add(tp__bans *bans, const tp_network *network, uint64_t until_ms, uint64_t now_ms) {
    if (!network_valid(network)) {
        return TP_ERR_INVALID;
    }
    tp_mutex_lock(&bans->mutex);
    tp_err error = bans_insert(bans, network, until_ms, now_ms);
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
        if (!network_valid(&list[i].network) ||
            !tp__ban_until(list[i].seconds, now_ms, &until_ms)) {
            return TP_ERR_INVALID;
        }
    }
    tp_mutex_lock(&bans->mutex);
    bans_clear(bans);
    for (size_t i = 0; i < count; i++) { /* cannot fail: the bans are valid and there is a slot for
                                            each */
        (void)tp__ban_until(list[i].seconds, now_ms, &until_ms);
        tp_err error = bans_insert(bans, &list[i].network, until_ms, now_ms);
        assert(!error);
        (void)error;
    }
    TP__VERIFY(tp__bans_check(bans));
    tp_mutex_unlock(&bans->mutex);
    return TP_OK;
}

bool tp__bans_lift(tp__bans *bans, const tp_network *network, uint64_t now_ms) {
    tp_mutex_lock(&bans->mutex);
    bool banned = network->bits <= BITS_OF_IP && bans_check_network(bans, network, now_ms);
    if (banned) {
        bans_remove(bans, bans_find(bans, network));
    }
    tp_mutex_unlock(&bans->mutex);
    return banned;
}

static bool bans_contain(tp__bans *bans, const tp_address *address, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&bans->mutex);
    for (unsigned bits = 0; bits <= BITS_OF_IP; bits++) {
        if (bans->of_length[bits] > 0) {
            const tp_network network = network_of(address->ip, bits);
            if (bans_check_network(bans, &network, now_ms)) {
                return true;
            }
        }
    }
    return false;
}

bool tp__bans_admit(tp__bans *bans, const tp_address *address, uint64_t now_ms) {
    tp_mutex_lock(&bans->mutex);
    bool admitted = bans->count == 0 || !bans_contain(bans, address, now_ms);
    tp_mutex_unlock(&bans->mutex);
    return admitted;
}

unsigned tp__bans_count(tp__bans *bans) {
    tp_mutex_lock(&bans->mutex);
    unsigned count = bans->count;
    tp_mutex_unlock(&bans->mutex);
    return count;
}

/* ---- the check ------------------------------------------------------------------------------- */

/* The bans of one chain, which it adds to `of_length`. */
static const char *bans_chain_check(
    tp__bans *bans, const uint16_t *chain, unsigned of_length[BITS_OF_IP + 1]) {
    unsigned length = 0;
    for (uint16_t at = *chain; at != 0; at = bans->bans[at].next) {
        TP__INVARIANT(at <= TP__BANS_MAX && length < bans->count);
        const tp_network *network = &bans->bans[at].network;
        TP__INVARIANT(network_valid(network));
        TP__INVARIANT(bans_chain(bans, network) == chain);
        for (uint16_t before = *chain; before != at; before = bans->bans[before].next) {
            TP__INVARIANT(!same_network(&bans->bans[before].network, network));
        }
        of_length[network->bits]++;
        length++;
    }
    return NULL;
}

const char *tp__bans_check(tp__bans *bans) {
    unsigned of_length[BITS_OF_IP + 1] = {0};
    unsigned count = 0;
    unsigned unused = 0;
    for (unsigned i = 0; i < CHAINS; i++) {
        const char *broken = bans_chain_check(bans, &bans->chains[i], of_length);
        if (broken) {
            return broken;
        }
    }
    for (unsigned bits = 0; bits <= BITS_OF_IP; bits++) {
        TP__INVARIANT(bans->of_length[bits] == of_length[bits]);
        count += of_length[bits];
    }
    TP__INVARIANT(bans->count == count);
    for (uint16_t at = bans->free; at != 0; at = bans->bans[at].next) {
        TP__INVARIANT(at <= TP__BANS_MAX && unused < TP__BANS_MAX);
        unused++;
    }
    TP__INVARIANT(count + unused == TP__BANS_MAX); /* each is banned or free */
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

tp_err tp__bans_create(tp__bans **bans) {
    tp__bans *made = tp__allocate_zeroed(1, sizeof *made);
    *bans = made;
    if (made == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    bans_clear(made);
    tp_random_bytes(&made->seed, sizeof made->seed);
    tp_mutex_init(&made->mutex);
    return TP_OK;
}

void tp__bans_destroy(tp__bans *bans) {
    if (bans != NULL) {
        TP__VERIFY(tp__bans_check(bans));
        tp_mutex_destroy(&bans->mutex);
        tp__free(bans);
    }
}
