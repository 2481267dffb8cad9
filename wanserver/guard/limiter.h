/*
 * The limits per address: connections per second, and connections at once. IPv4 counts by address,
 * whether it comes as IPv4 or mapped into IPv6; IPv6 by /64, which is what one customer has.
 *
 * A table of fixed size, all of it allocated at create: an attacker with many addresses cannot make
 * it grow. Where it is full, the address seen longest ago that has no connection is forgotten, and
 * with it how much of its rate it had used; addresses with connections never are.
 *
 * Any thread: a mutex inside, held for a look-up. It is taken when a connection comes and when it
 * goes, never for a message.
 */
#ifndef TWINPORT_WANSERVER_GUARD_LIMITER_H
#define TWINPORT_WANSERVER_GUARD_LIMITER_H

#include <stdint.h>

#include "twinport/address.h"

typedef struct tp__limiter tp__limiter;

typedef struct tp__limiter_options {
    unsigned rate;        /* connections per second, 0: no limit */
    unsigned burst;       /* ... and at once, 1 or more if there is a rate */
    unsigned connections; /* open at the same time, 0: no limit */
    unsigned addresses;   /* that have an entry of their own, 1 or more */
} tp__limiter_options;

typedef enum tp__admission {
    TP__ADMITTED,          /* and counted: tp__limiter_leave() is owed */
    TP__TOO_FAST,          /* its rate is used up */
    TP__TOO_MANY,          /* it has as many connections as it may */
    TP__TOO_MANY_ADDRESSES /* every entry of the table has a connection */
} tp__admission;

/* TP_ERR_INVALID, TP_ERR_NO_MEMORY. */
tp_err tp__limiter_create(const tp__limiter_options *options, tp__limiter **limiter);
/* No thread may use it any more. NULL is ignored. */
void tp__limiter_destroy(tp__limiter *limiter);

/* Asks for one connection. Those turned away use up nothing, so whoever keeps knocking gets in at
 * his rate. `stall_ms`: how long none was taken of late; who waited meanwhile comes at once. */
tp__admission tp__limiter_admit(
    tp__limiter *limiter, const tp_address *address, uint64_t now_ms, uint64_t stall_ms);
/* One connection that was admitted is over. */
void tp__limiter_leave(tp__limiter *limiter, const tp_address *address);

/* Connections counted for this address now, and addresses in the table. */
unsigned tp__limiter_connections(tp__limiter *limiter, const tp_address *address);
unsigned tp__limiter_addresses(tp__limiter *limiter);

#endif
