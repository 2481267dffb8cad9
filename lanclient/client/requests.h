/*
 * The open requests: a bounded table with time-outs, searched by ticket.
 *
 * The thread that takes a request out of the table calls its callback; so it is called exactly
 * once.
 *
 * The deadlines are on a timing wheel: a request is linked into the slot of its tick, modulo the
 * number of slots. So adding and taking change a few links, and a time-out check visits one slot
 * for each tick that has passed.
 *
 * Any thread, under the table's own mutex; nothing is called under it.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_REQUESTS_H
#define TWINPORT_LANCLIENT_CLIENT_REQUESTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/thread.h"
#include "twinport/lanclient.h"

typedef struct tp__request {
    tp_ticket ticket; /* 0: the entry is free */
    tp_peer_id peer;  /* the peer it was sent to; TP_NO_PEER: a service, or the hub */
    tp_on_reply *on_reply;
    void *context;
    uint64_t due_tick;
    /* Links are index + 1; 0: none. bucket_next also links the free entries. */
    uint32_t bucket_next;
    uint32_t wheel_next;
    uint32_t wheel_previous;
} tp__request;

#define TP__REQUEST_TICK_MS 16u
#define TP__REQUEST_WHEEL   512u

typedef struct tp__requests {
    tp_mutex mutex;
    uint32_t limit;
    uint32_t capacity; /* entries, a power of two, or 0 */
    uint32_t free;
    tp__request *entries;
    uint32_t *buckets; /* capacity of them */
    uint32_t wheel[TP__REQUEST_WHEEL];
    uint64_t checked_tick; /* all slots up to this tick have been checked */
    _Atomic uint32_t open;
} tp__requests;

void tp__requests_init(tp__requests *requests, uint32_t limit);
void tp__requests_destroy(tp__requests *requests);

/* Adds a request that is due timeout_ms after now_ms. TP_ERR_FULL (`limit`), TP_ERR_NO_MEMORY. */
tp_err tp__requests_add(
    tp__requests *requests, tp__request request, uint64_t now_ms, unsigned timeout_ms);

/* Takes the request with this ticket out of the table and copies it. False: it is not in the table
 * (any more). */
bool tp__requests_take(tp__requests *requests, tp_ticket ticket, tp__request *taken);

/* Takes one request whose time has passed. False: there is none. */
bool tp__requests_take_due(tp__requests *requests, uint64_t now_ms, tp__request *taken);

/* Takes one request to `peer`, or any request if `peer` is TP_NO_PEER, beginning with entry *from,
 * which is advanced; start with 0. False: there is none left. */
bool tp__requests_take_next(
    tp__requests *requests, tp_peer_id peer, uint32_t *from, tp__request *taken);

/* Frees the table's memory if no request is open. */
void tp__requests_trim(tp__requests *requests);

/* The first invariant that does not hold, or NULL. Under the mutex; looks at every entry
 * (client_check.c). */
const char *tp__requests_check(const tp__requests *requests);

static inline uint32_t tp__requests_open(const tp__requests *requests) {
    return atomic_load_explicit(&requests->open, memory_order_seq_cst);
}

#endif
