/*
 * The hub of the bus: what the program `lanserver` runs. docs/bus-protocol.md is what it speaks.
 *
 * Written on lanserver's public handlers and calls, but for served time and the seal of a packet
 * (docs/architecture.md, Layers). The engine knows nothing of it.
 */
#ifndef TWINPORT_LANSERVER_BUS_HUB_H
#define TWINPORT_LANSERVER_BUS_HUB_H

#include <stddef.h>
#include <stdint.h>

#include "proto/bus.h"
#include "twinport/lanserver.h"

typedef struct tp__hub tp__hub;

typedef struct tp__hub_options {
    tp_server_options server;  /* queue_policy: not TP_QUEUE_DROP, which would lose in silence. With
                                  a max_frame above queue_bytes, what is larger is passed on to
                                  whose queue is empty */
    unsigned hello_timeout_ms; /* from the connection to its HELLO, 100..600,000 */
    unsigned
        unconfirmed_limit; /* messages a peer may leave unconfirmed, 1..TP_BUS_UNCONFIRMED_MAX */
    unsigned max_services; /* names in the hub's life, 1..65,536 */
} tp__hub_options;

/* lanserver's defaults on port 7400; HELLO within 5 s, 65,536 unconfirmed, 4,096 services. */
void tp__hub_defaults(tp__hub_options *options);

/* As tp_lanserver_create(), with its errors. */
tp_err tp__hub_create(const tp__hub_options *options, tp__hub **hub);

/* As tp_server_start(), with its errors. */
tp_err tp__hub_start(tp__hub *hub);

/* Begins to stop, any thread. From here on new messages are returned (`shutdown`); replies still
 * pass. When all that was forwarded is confirmed, or after drain_timeout_ms, the server stops; both
 * together take drain_timeout_ms + TP__STOP_REST_MS at most (core/base/deadline.h). */
void tp__hub_stop(tp__hub *hub);

/* Waits until the stop has finished, at most timeout_ms (-1: for ever). TP_OK, TP_ERR_TIMED_OUT,
 * TP_ERR_STATE (nobody asked it to stop). Then it may be started again. One thread at a time, not a
 * worker. */
tp_err tp__hub_wait(tp__hub *hub, int timeout_ms);

/* Stops without drain if needed, and frees. NULL is ignored. */
void tp__hub_destroy(tp__hub *hub);

tp_server *tp__hub_server(tp__hub *hub);

/* What became of the messages. accepted = delivered + returned + outstanding when nothing moves;
 * each copy of an ALL counts. */
typedef struct tp__hub_account {
    unsigned peers;    /* now */
    unsigned services; /* names known */
    uint64_t accepted;
    uint64_t delivered;   /* confirmed by their receivers */
    uint64_t outstanding; /* forwarded and not confirmed, now */
    uint64_t returned;
    uint64_t returned_by[TP_BUS_REASON_END]; /* its parts, by tp_bus_reason */
    uint64_t orphaned;                       /* part of returned: the sender was gone too */
    uint64_t requests;                       /* answered by the hub itself; not in accepted */
    uint64_t refused;                        /* sessions whose HELLO was not good */
    uint64_t refused_for[TP_BUS_REASON_END]; /* its parts, by tp_bus_reason */
    uint64_t late;                           /* ... that have not said HELLO in time */
} tp__hub_account;

/* Any thread. Each number is right; their sums fit when nothing moves. */
void tp__hub_get_account(tp__hub *hub, tp__hub_account *account);

/* The account and the server's counters as `name=value` lines into `text`, cut at `room`; returns
 * how many bytes. Any thread. */
#define TP__HUB_REPORT_ROOM 4096
size_t tp__hub_report(tp__hub *hub, char *text, size_t room);

#endif
