/*
 * See requests.h. Any thread; everything but init and destroy under the table's mutex.
 */
#include "lanclient/client/requests.h"

#include <assert.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/memory/grow.h"
#include "core/memory/memory.h"

#define FIRST_SIZE 64u

void tp__requests_init(tp__requests *requests, uint32_t limit) {
    assert(limit > 0);
    memset(requests, 0, sizeof *requests);
    requests->limit = limit;
    atomic_init(&requests->open, 0);
    tp_mutex_init(&requests->mutex);
}

void tp__requests_destroy(tp__requests *requests) {
    tp__free(requests->entries);
    tp__free(requests->buckets);
    tp_mutex_destroy(&requests->mutex);
}

/* ---- links ----------------------------------------------------------------------------------- */

static tp__request *requests_entry(const tp__requests *requests, uint32_t entry) {
    assert(entry >= 1 && entry <= requests->capacity);
    return &requests->entries[entry - 1];
}

/* Tickets are consecutive, so their low bits are evenly distributed. */
static uint32_t *requests_bucket(const tp__requests *requests, tp_ticket ticket) {
    TP_ASSERT_LOCKED(&requests->mutex);
    assert(requests->capacity > 0);
    return &requests->buckets[ticket & (requests->capacity - 1)];
}

static uint32_t *wheel_slot(tp__requests *requests, uint64_t tick) {
    return &requests->wheel[tick % TP__REQUEST_WHEEL];
}

static void wheel_link(tp__requests *requests, uint32_t entry) {
    tp__request *request = requests_entry(requests, entry);
    assert(request->due_tick > requests->checked_tick);
    uint32_t *slot = wheel_slot(requests, request->due_tick);
    request->wheel_previous = 0;
    request->wheel_next = *slot;
    if (*slot) {
        requests_entry(requests, *slot)->wheel_previous = entry;
    }
    *slot = entry;
}

static void wheel_unlink(tp__requests *requests, const tp__request *request) {
    if (request->wheel_previous) {
        assert(requests_entry(requests, request->wheel_previous)->due_tick % TP__REQUEST_WHEEL ==
               request->due_tick % TP__REQUEST_WHEEL);
        requests_entry(requests, request->wheel_previous)->wheel_next = request->wheel_next;
    } else {
        *wheel_slot(requests, request->due_tick) = request->wheel_next;
    }
    if (request->wheel_next) {
        requests_entry(requests, request->wheel_next)->wheel_previous = request->wheel_previous;
    }
}

static void bucket_link(tp__requests *requests, uint32_t entry) {
    uint32_t *bucket = requests_bucket(requests, requests_entry(requests, entry)->ticket);
    requests_entry(requests, entry)->bucket_next = *bucket;
    *bucket = entry;
}

static void bucket_unlink(tp__requests *requests, uint32_t entry) {
    uint32_t *link = requests_bucket(requests, requests_entry(requests, entry)->ticket);
    while (*link != entry) {
        link = &requests_entry(requests, *link)->bucket_next;
    }
    *link = requests_entry(requests, entry)->bucket_next;
}

static void requests_take_out(tp__requests *requests, uint32_t entry, tp__request *taken) {
    TP_ASSERT_LOCKED(&requests->mutex);
    tp__request *request = requests_entry(requests, entry);
    assert(request->ticket != 0 && tp__requests_open(requests) > 0);
    *taken = *request;
    bucket_unlink(requests, entry);
    wheel_unlink(requests, request);
    request->ticket = 0;
    request->bucket_next = requests->free;
    requests->free = entry;
    atomic_fetch_sub_explicit(&requests->open, 1, memory_order_seq_cst);
}

/* ---- capacity -------------------------------------------------------------------------------- */

/* Doubles the table. The wheel's links are indexes and stay valid; the buckets are rebuilt. */
static bool requests_grow(tp__requests *requests) {
    TP_ASSERT_LOCKED(&requests->mutex);
    assert(!requests->free && tp__requests_open(requests) == requests->capacity);
    uint32_t old = requests->capacity;
    uint32_t capacity = tp__doubled(old, FIRST_SIZE);
    tp__request *entries = tp__larger_copy(requests->entries, old, capacity, sizeof *entries);
    uint32_t *buckets = tp__allocate_zeroed(capacity, sizeof *buckets);
    if (!entries || !buckets) {
        tp__free(entries);
        tp__free(buckets);
        return false;
    }
    tp__free(requests->entries);
    tp__free(requests->buckets);
    requests->entries = entries;
    requests->buckets = buckets;
    requests->capacity = capacity;
    for (uint32_t entry = 1; entry <= old; entry++) {
        bucket_link(requests, entry); /* the table was full */
    }
    for (uint32_t entry = capacity; entry > old; entry--) {
        entries[entry - 1].bucket_next = requests->free;
        requests->free = entry;
    }
    TP__VERIFY(tp__requests_check(requests));
    return true;
}

void tp__requests_trim(tp__requests *requests) {
    tp_mutex_lock(&requests->mutex);
    TP__VERIFY(tp__requests_check(requests));
    if (tp__requests_open(requests) == 0) {
        tp__free(requests->entries);
        tp__free(requests->buckets);
        requests->entries = NULL;
        requests->buckets = NULL;
        requests->capacity = 0;
        requests->free = 0;
    }
    tp_mutex_unlock(&requests->mutex);
}

/* ---- the table ------------------------------------------------------------------------------- */

static tp_err requests_insert(tp__requests *requests, const tp__request *request) {
    TP_ASSERT_LOCKED(&requests->mutex);
    uint32_t open = tp__requests_open(requests);
    if (open >= requests->limit) {
        return TP_ERR_FULL;
    }
    if (!requests->free && !requests_grow(requests)) {
        return TP_ERR_NO_MEMORY;
    }
    uint32_t entry = requests->free;
    requests->free = requests_entry(requests, entry)->bucket_next;
    *requests_entry(requests, entry) = *request;
    bucket_link(requests, entry);
    wheel_link(requests, entry);
    atomic_store_explicit(&requests->open, open + 1, memory_order_seq_cst);
    return TP_OK;
}

tp_err tp__requests_add(
    tp__requests *requests, tp__request request, uint64_t now_ms, unsigned timeout_ms) {
    assert(request.ticket != 0);
    uint64_t now_tick = now_ms / TP__REQUEST_TICK_MS;
    /* Rounded up, so that a request never times out too early. */
    request.due_tick = (now_ms + timeout_ms) / TP__REQUEST_TICK_MS + 1;
    tp_mutex_lock(&requests->mutex);
    if (tp__requests_open(requests) == 0) {
        requests->checked_tick = now_tick; /* an empty wheel needs no check */
    }
    if (request.due_tick <= requests->checked_tick) {
        /* now_ms was read before the mutex was taken. */
        request.due_tick = requests->checked_tick + 1;
    }
    tp_err error = requests_insert(requests, &request);
    tp_mutex_unlock(&requests->mutex);
    return error;
}

bool tp__requests_take(tp__requests *requests, tp_ticket ticket, tp__request *taken) {
    tp_mutex_lock(&requests->mutex);
    uint32_t entry = requests->capacity ? *requests_bucket(requests, ticket) : 0;
    while (entry && requests_entry(requests, entry)->ticket != ticket) {
        entry = requests_entry(requests, entry)->bucket_next;
    }
    if (entry) {
        requests_take_out(requests, entry, taken);
    }
    tp_mutex_unlock(&requests->mutex);
    return entry != 0;
}

/* An entry in the slot of this tick that is due, or 0. */
static uint32_t wheel_find_due(tp__requests *requests, uint64_t tick, uint64_t now_tick) {
    TP_ASSERT_LOCKED(&requests->mutex);
    assert(tick <= now_tick);
    uint32_t entry = *wheel_slot(requests, tick);
    while (entry && requests_entry(requests, entry)->due_tick > now_tick) {
        entry = requests_entry(requests, entry)->wheel_next;
    }
    return entry;
}

bool tp__requests_take_due(tp__requests *requests, uint64_t now_ms, tp__request *taken) {
    uint64_t now_tick = now_ms / TP__REQUEST_TICK_MS;
    uint32_t entry = 0;
    tp_mutex_lock(&requests->mutex);
    if (now_tick > requests->checked_tick + TP__REQUEST_WHEEL) {
        requests->checked_tick = now_tick - TP__REQUEST_WHEEL; /* one revolution covers all slots */
    }
    while (tp__requests_open(requests) > 0 && !entry && requests->checked_tick < now_tick) {
        entry = wheel_find_due(requests, requests->checked_tick + 1, now_tick);
        requests->checked_tick += entry ? 0 : 1;
    }
    if (entry) {
        requests_take_out(requests, entry, taken);
    } else {
        TP__VERIFY(tp__requests_check(requests));
    }
    tp_mutex_unlock(&requests->mutex);
    return entry != 0;
}

bool tp__requests_take_next(
    tp__requests *requests, tp_peer_id peer, uint32_t *from, tp__request *taken) {
    bool found = false;
    tp_mutex_lock(&requests->mutex);
    while (!found && *from < requests->capacity && tp__requests_open(requests) > 0) {
        const tp__request *request = &requests->entries[*from];
        ++*from;
        found = request->ticket != 0 && (peer == TP_NO_PEER || request->peer == peer);
    }
    if (found) {
        requests_take_out(requests, *from, taken);
    } else {
        TP__VERIFY(tp__requests_check(requests));
    }
    tp_mutex_unlock(&requests->mutex);
    return found;
}
