/*
 * The hub: the router of the bus, which the program `lanserver` runs. docs/bus-protocol.md
 * describes its protocol.
 *
 * It is written on lanserver's public handlers and calls, except for served time and the seal of a
 * packet (docs/architecture.md, Layers). The engine does not depend on it.
 */
#ifndef TWINPORT_LANSERVER_BUS_HUB_H
#define TWINPORT_LANSERVER_BUS_HUB_H

#include <stddef.h>
#include <stdint.h>

#include "proto/bus.h"
#include "twinport/lanserver.h"

typedef struct tp__hub tp__hub;

typedef struct tp__hub_options {
    /* queue_policy: any but TP_QUEUE_DROP, which would lose messages silently. If max_frame is
     * above queue_bytes, a message larger than queue_bytes is forwarded only to a peer whose queue
     * is empty. */
    tp_server_options server;
    unsigned hello_timeout_ms;  /* from connection to HELLO, 100..600,000 */
    unsigned unconfirmed_limit; /* unacknowledged messages for a peer, 1..TP_BUS_UNCONFIRMED_MAX */
    unsigned max_services;      /* service names in the hub's lifetime, 1..65,536 */
} tp__hub_options;

/* lanserver's defaults, port 7400, HELLO within 5 s, 65,536 unacknowledged messages, 4,096
 * services. */
void tp__hub_defaults(tp__hub_options *options);

/* Creates a hub, which is not started. TP_ERR_INVALID (the log names the option), TP_ERR_NO_MEMORY,
 * and the errors of tp_lanserver_create(); on error *hub is NULL. */
tp_err tp__hub_create(const tp__hub_options *options, tp__hub **hub);

/* Starts the server. TP_ERR_STATE: the hub runs. Otherwise the errors of tp_server_start(), and
 * TP_ERR_NO_MEMORY or TP_ERR_FULL if the first acknowledgement sweep cannot be posted. */
tp_err tp__hub_start(tp__hub *hub);

/* Begins to stop and returns. Any thread. From here on new messages bounce (`shutdown`); replies
 * and errors still pass. When all forwarded messages are acknowledged, or after drain_timeout_ms,
 * the server stops. Both together take at most drain_timeout_ms + TP__STOP_REST_MS
 * (core/base/deadline.h). */
void tp__hub_stop(tp__hub *hub);

/* Waits until the stop has finished, at most timeout_ms (-1: without limit). TP_OK: the hub may be
 * started again. TP_ERR_TIMED_OUT; TP_ERR_STATE: the hub does not run, or no stop was requested.
 * One thread at a time, not a worker. */
tp_err tp__hub_wait(tp__hub *hub, int timeout_ms);

/* Stops without drain if necessary, and frees the hub. NULL is ignored. */
void tp__hub_destroy(tp__hub *hub);

tp_server *tp__hub_server(tp__hub *hub);

/*
 * The hub's statistics, each with its name in the text:
 *
 *     NOW(name, text)              a number of this moment, or of names so far
 *     SUM(name, text)              counted elsewhere: in the peers, the connections
 *     COUNT(name, text)            counted in the hub
 *     REASONS(name, parts, text)   counted in the hub by tp_bus_reason; `parts` has each of them
 *
 * While no message is in motion: accepted = delivered + returned + outstanding. Each copy of an ALL
 * counts.
 */
#define TP__HUB_STATS(NOW, SUM, COUNT, REASONS)                                                    \
    NOW(peers, "peers")                        /* peers now */                                     \
    NOW(services, "services")                  /* service names registered so far */               \
    SUM(accepted, "accepted")                  /* messages accepted from their senders */          \
    SUM(delivered, "delivered")                /* messages acknowledged by their receivers */      \
    SUM(outstanding, "outstanding")            /* messages forwarded and not acknowledged, now */  \
    REASONS(returned, returned_by, "returned") /* messages returned to their senders */            \
    COUNT(orphaned, "returned.orphaned") /* part of returned: the sender did not get it back */    \
    COUNT(requests, "hub.requests") /* requests answered by the hub itself; not in accepted */     \
    REASONS(refused, refused_for, "hello.refused") /* sessions whose HELLO was refused */          \
    SUM(late, "hello.late") /* sessions without a HELLO in time; not in hello.refused */

typedef struct tp__hub_stats {
#define TP__HUB_STATS_NOW(name, text)            unsigned name;
#define TP__HUB_STATS_FIELD(name, text)          uint64_t name;
#define TP__HUB_STATS_REASONS(name, parts, text) uint64_t name, parts[TP_BUS_REASON_END];
    TP__HUB_STATS(
        TP__HUB_STATS_NOW, TP__HUB_STATS_FIELD, TP__HUB_STATS_FIELD, TP__HUB_STATS_REASONS)
#undef TP__HUB_STATS_NOW
#undef TP__HUB_STATS_FIELD
#undef TP__HUB_STATS_REASONS
} tp__hub_stats;

/* Any thread. Each number is exact; sums agree only while no message is in motion. */
void tp__hub_get_stats(tp__hub *hub, tp__hub_stats *stats);

/* Writes the hub's statistics and the server's counters as `name=value` lines into `text`;
 * a line that does not fit into `size` is left out. Returns the number of bytes. Any thread. */
#define TP__HUB_STATS_TEXT_SIZE 4096
size_t tp__hub_stats_text(tp__hub *hub, char *text, size_t size);

#endif
