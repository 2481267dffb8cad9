/*
 * The limits per address: connections per second, and connections at a time. IPv4 counts by
 * address, whether the address is IPv4 or mapped into IPv6. IPv6 counts by /64, which is what one
 * customer has.
 *
 * The table has a fixed size and is allocated at create: an attacker with many addresses cannot
 * make it grow. When it is full, the address without connections that was seen longest ago is
 * removed, and what it had used of its rate is forgotten. Addresses with connections are never
 * removed.
 *
 * Any thread: the mutex inside is held for a look-up. It is taken when a connection begins and when
 * it ends, never for a message.
 */
#ifndef TWINPORT_WANSERVER_GUARD_LIMITER_H
#define TWINPORT_WANSERVER_GUARD_LIMITER_H

#include <stdint.h>

#include "twinport/address.h"

typedef struct tp__limiter tp__limiter;

typedef struct tp__limiter_options {
    unsigned rate;        /* connections per second, 0: no limit */
    unsigned burst;       /* connections at once, 1 or more if there is a rate */
    unsigned connections; /* connections at a time, 0: no limit */
    unsigned addresses;   /* size of the table, 1 or more */
} tp__limiter_options;

typedef enum tp__admission {
    TP__ADMITTED,          /* admitted and counted: the caller owes a tp__limiter_leave() */
    TP__TOO_FAST,          /* the address has used up its rate */
    TP__TOO_MANY,          /* the address has as many connections as it may have */
    TP__TOO_MANY_ADDRESSES /* every entry of the table has a connection */
} tp__admission;

/* TP_ERR_INVALID, TP_ERR_NO_MEMORY. */
tp_err tp__limiter_create(const tp__limiter_options *options, tp__limiter **limiter);
/* No thread may use it any more. NULL is ignored. */
void tp__limiter_destroy(tp__limiter *limiter);

/* Asks for one connection. A refusal uses up nothing, so an address that keeps trying is admitted
 * at its rate. `stall_ms`: how long all workers stood still recently; the connections that
 * waited meanwhile arrive at once. */
tp__admission tp__limiter_admit(
    tp__limiter *limiter, const tp_address *address, uint64_t now_ms, uint64_t stall_ms);
/* One admitted connection has ended. */
void tp__limiter_leave(tp__limiter *limiter, const tp_address *address);

/* The connections of this address, and the addresses in the table, now. */
unsigned tp__limiter_connections(tp__limiter *limiter, const tp_address *address);
unsigned tp__limiter_addresses(tp__limiter *limiter);

/* NULL, or the text of an invariant that does not hold (core/base/invariant.h). Walks over the
 * whole table; under the mutex inside, or when no thread uses it any more. */
const char *tp__limiter_check(tp__limiter *limiter);

#endif
