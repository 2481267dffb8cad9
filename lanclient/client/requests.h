/*
 * The open requests: a bounded table, found by ticket, that knows whose time has passed.
 *
 * Whoever takes a request out of the table calls its callback: that is what makes it exactly once.
 *
 * The deadlines lie on a wheel of ticks: a request is linked at the slot of its tick, modulo the
 * wheel, so adding and taking are a few links and time-outs look at one slot for each tick that
 * passes.
 *
 * Any thread, under the table's own mutex, which nothing is called under.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_REQUESTS_H
#define TWINPORT_LANCLIENT_CLIENT_REQUESTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/thread.h"
#include "twinport/lanclient.h"

typedef struct tp__request {
    tp_ticket ticket; /* 0: the place is free */
    tp_peer_id peer;  /* whom it went to; TP_NO_PEER: to a service, or the hub */
    tp_on_reply *on_reply;
    void *context;
    uint64_t due_tick;
    uint32_t
        bucket_next; /* places are named by index + 1 here; 0: none. Also the free places' list */
    uint32_t wheel_next;
    uint32_t wheel_previous;
} tp__request;

#define TP__REQUEST_TICK_MS 16u
#define TP__REQUEST_WHEEL   512u

typedef struct tp__requests {
    tp_mutex mutex;
    uint32_t limit;
    uint32_t room; /* places, a power of two or 0 */
    uint32_t free;
    tp__request *places;
    uint32_t *buckets; /* room of them */
    uint32_t wheel[TP__REQUEST_WHEEL];
    uint64_t looked_tick; /* up to here every slot has been looked at */
    _Atomic uint32_t open;
} tp__requests;

void tp__requests_init(tp__requests *requests, uint32_t limit);
void tp__requests_destroy(tp__requests *requests);

/* TP_ERR_FULL, TP_ERR_NO_MEMORY. */
tp_err tp__requests_add(
    tp__requests *requests, tp__request request, uint64_t now_ms, unsigned timeout_ms);

/* Takes the request out of the table and copies it. False: it is not there (any more). */
bool tp__requests_take(tp__requests *requests, tp_ticket ticket, tp__request *taken);

/* Takes one whose time has passed. */
bool tp__requests_take_due(tp__requests *requests, uint64_t now_ms, tp__request *taken);

/* Takes one that went to `peer`, or any if it is TP_NO_PEER, from place *from on, which moves:
 * begin with 0. */
bool tp__requests_take_next(
    tp__requests *requests, tp_peer_id peer, uint32_t *from, tp__request *taken);

/* Gives the memory back if no request is open. */
void tp__requests_trim(tp__requests *requests);

static inline uint32_t tp__requests_open(const tp__requests *requests) {
    return atomic_load_explicit(&requests->open, memory_order_seq_cst);
}

#endif
