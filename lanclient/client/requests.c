/*
 * See requests.h. Any thread; everything but init and destroy under the table's mutex.
 */
#include "lanclient/client/requests.h"

#include <string.h>

#include "core/memory/memory.h"

#define FIRST_ROOM 64u

void tp__requests_init(tp__requests *requests, uint32_t limit) {
    memset(requests, 0, sizeof *requests);
    requests->limit = limit;
    atomic_init(&requests->open, 0);
    tp_mutex_init(&requests->mutex);
}

void tp__requests_destroy(tp__requests *requests) {
    tp__free(requests->places);
    tp__free(requests->buckets);
    tp_mutex_destroy(&requests->mutex);
}

/* ---- links ----------------------------------------------------------------------------------- */

static tp__request *at(const tp__requests *requests, uint32_t place) {
    return &requests->places[place - 1];
}

/* Tickets are counted up, so their low bits spread by themselves. */
static uint32_t *bucket_of(const tp__requests *requests, tp_ticket ticket) {
    return &requests->buckets[ticket & (requests->room - 1)];
}

static uint32_t *slot_of(tp__requests *requests, uint64_t tick) {
    return &requests->wheel[tick % TP__REQUEST_WHEEL];
}

static void wheel_link(tp__requests *requests, uint32_t place) {
    tp__request *request = at(requests, place);
    uint32_t *slot = slot_of(requests, request->due_tick);
    request->wheel_previous = 0;
    request->wheel_next = *slot;
    if (*slot) {
        at(requests, *slot)->wheel_previous = place;
    }
    *slot = place;
}

static void wheel_unlink(tp__requests *requests, const tp__request *request) {
    if (request->wheel_previous) {
        at(requests, request->wheel_previous)->wheel_next = request->wheel_next;
    } else {
        *slot_of(requests, request->due_tick) = request->wheel_next;
    }
    if (request->wheel_next) {
        at(requests, request->wheel_next)->wheel_previous = request->wheel_previous;
    }
}

static void bucket_link(tp__requests *requests, uint32_t place) {
    uint32_t *bucket = bucket_of(requests, at(requests, place)->ticket);
    at(requests, place)->bucket_next = *bucket;
    *bucket = place;
}

static void bucket_unlink(tp__requests *requests, uint32_t place) {
    uint32_t *link = bucket_of(requests, at(requests, place)->ticket);
    while (*link != place) {
        link = &at(requests, *link)->bucket_next;
    }
    *link = at(requests, place)->bucket_next;
}

static void take_out(tp__requests *requests, uint32_t place, tp__request *taken) {
    tp__request *request = at(requests, place);
    *taken = *request;
    bucket_unlink(requests, place);
    wheel_unlink(requests, request);
    request->ticket = 0;
    request->bucket_next = requests->free;
    requests->free = place;
    atomic_fetch_sub_explicit(&requests->open, 1, memory_order_seq_cst);
}

/* ---- room ------------------------------------------------------------------------------------ */

/* Doubles the table. The wheel's links are indexes and stay right; the buckets are made anew. */
static bool grow(tp__requests *requests) {
    uint32_t old = requests->room;
    uint32_t room = old ? old * 2 : FIRST_ROOM;
    tp__request *places = tp__allocate_zeroed(room, sizeof *places);
    uint32_t *buckets = tp__allocate_zeroed(room, sizeof *buckets);
    if (!places || !buckets) {
        tp__free(places);
        tp__free(buckets);
        return false;
    }
    if (old) {
        memcpy(places, requests->places, old * sizeof *places);
    }
    tp__free(requests->places);
    tp__free(requests->buckets);
    requests->places = places;
    requests->buckets = buckets;
    requests->room = room;
    for (uint32_t place = 1; place <= old; place++) {
        bucket_link(requests, place); /* the table was full */
    }
    for (uint32_t place = room; place > old; place--) {
        places[place - 1].bucket_next = requests->free;
        requests->free = place;
    }
    return true;
}

void tp__requests_trim(tp__requests *requests) {
    tp_mutex_lock(&requests->mutex);
    if (tp__requests_open(requests) == 0) {
        tp__free(requests->places);
        tp__free(requests->buckets);
        requests->places = NULL;
        requests->buckets = NULL;
        requests->room = 0;
        requests->free = 0;
    }
    tp_mutex_unlock(&requests->mutex);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* Under the mutex. */
static tp_err add(tp__requests *requests, const tp__request *request) {
    uint32_t open = tp__requests_open(requests);
    if (open >= requests->limit) {
        return TP_ERR_FULL;
    }
    if (!requests->free && !grow(requests)) {
        return TP_ERR_NO_MEMORY;
    }
    uint32_t place = requests->free;
    requests->free = at(requests, place)->bucket_next;
    *at(requests, place) = *request;
    bucket_link(requests, place);
    wheel_link(requests, place);
    atomic_store_explicit(&requests->open, open + 1, memory_order_seq_cst);
    return TP_OK;
}

tp_err tp__requests_add(
    tp__requests *requests, tp__request request, uint64_t now_ms, unsigned timeout_ms) {
    uint64_t now_tick = now_ms / TP__REQUEST_TICK_MS;
    request.due_tick = (now_ms + timeout_ms) / TP__REQUEST_TICK_MS + 1; /* never too early */
    tp_mutex_lock(&requests->mutex);
    if (tp__requests_open(requests) == 0) {
        requests->looked_tick = now_tick; /* an empty wheel need not be looked through */
    }
    if (request.due_tick <= requests->looked_tick) {
        request.due_tick = requests->looked_tick + 1; /* now_ms is from before we had the mutex */
    }
    tp_err error = add(requests, &request);
    tp_mutex_unlock(&requests->mutex);
    return error;
}

bool tp__requests_take(tp__requests *requests, tp_ticket ticket, tp__request *taken) {
    tp_mutex_lock(&requests->mutex);
    uint32_t place = requests->room ? *bucket_of(requests, ticket) : 0;
    while (place && at(requests, place)->ticket != ticket) {
        place = at(requests, place)->bucket_next;
    }
    if (place) {
        take_out(requests, place, taken);
    }
    tp_mutex_unlock(&requests->mutex);
    return place != 0;
}

/* One that is due in this slot, or 0. */
static uint32_t due_in(tp__requests *requests, uint64_t tick, uint64_t now_tick) {
    uint32_t place = *slot_of(requests, tick);
    while (place && at(requests, place)->due_tick > now_tick) {
        place = at(requests, place)->wheel_next;
    }
    return place;
}

bool tp__requests_take_due(tp__requests *requests, uint64_t now_ms, tp__request *taken) {
    uint64_t now_tick = now_ms / TP__REQUEST_TICK_MS;
    uint32_t place = 0;
    tp_mutex_lock(&requests->mutex);
    if (now_tick > requests->looked_tick + TP__REQUEST_WHEEL) {
        requests->looked_tick = now_tick - TP__REQUEST_WHEEL; /* once round is all of it */
    }
    while (tp__requests_open(requests) > 0 && !place && requests->looked_tick < now_tick) {
        place = due_in(requests, requests->looked_tick + 1, now_tick);
        requests->looked_tick += place ? 0 : 1;
    }
    if (place) {
        take_out(requests, place, taken);
    }
    tp_mutex_unlock(&requests->mutex);
    return place != 0;
}

bool tp__requests_take_next(
    tp__requests *requests, tp_peer_id peer, uint32_t *from, tp__request *taken) {
    bool found = false;
    tp_mutex_lock(&requests->mutex);
    while (!found && *from < requests->room && tp__requests_open(requests) > 0) {
        const tp__request *request = &requests->places[*from];
        ++*from;
        found = request->ticket != 0 && (peer == TP_NO_PEER || request->peer == peer);
    }
    if (found) {
        take_out(requests, *from, taken);
    }
    tp_mutex_unlock(&requests->mutex);
    return found;
}
