/*
 * The traffic of the bus table, the same for every bus: a sender keeps `window` messages in flight
 * to its receiver; the receiver checks each one and answers with an 8-byte ack; an ack makes the
 * next message due. So two messages are routed for each ack. This file has what does not depend on
 * the bus: the command line, the contents of a message, the sender's window, the figures and their
 * output.
 */
#ifndef TWINPORT_BENCH_ROUTE_LOAD_H
#define TWINPORT_BENCH_ROUTE_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dummy/histogram.h"

enum { route_ack_size = 8, route_window_most = 1024, route_size_most = 64 * 1024 };

typedef struct route_options {
    char host[64];
    unsigned port;
    unsigned pairs;
    unsigned window;
    unsigned size;
    bool threads_each; /* a thread for each connection in place of one for all */
    double warm_seconds;
    double seconds;
} route_options;

/* Reads --connect HOST:PORT --pairs N --window W --size B --seconds S [--warm S]
 * [--threads one|each]; anything else prints the usage and exits with 2. */
void route_read_options(route_options *options, int argc, char **argv);

/* A message is its number (u64, little-endian) and a pattern made of the number. */
void route_fill(unsigned char *message, size_t size, uint64_t number);
/* True if `message` is intact; returns its number, whose 8 bytes are also the ack. */
bool route_check(const unsigned char *message, size_t size, uint64_t *number);

/* State of the whole run. The thread that keeps the time sets `measuring` and `stopping`; senders
 * check them at every ack. */
typedef struct route_run {
    route_options options;
    atomic_bool measuring;
    atomic_bool stopping;
} route_run;

/* One sender. Its messages arrive and are acknowledged in order. Only the thread that handles its
 * acks uses it, except for `acked` and `errors`, which any thread may read. */
typedef struct route_sender {
    route_run *run;
    uint64_t next;              /* number of the next message to send */
    atomic_uint_fast64_t acked; /* invariant: acked <= next <= acked + window */
    atomic_uint_fast64_t errors;
    uint64_t sent_at[route_window_most]; /* ns, by number modulo the window */
    histogram round_trips;               /* of acks that came while measuring */
} route_sender;

/* True if the window is not full and the run goes on. Then route_next() makes the next message, of
 * the run's size, which must be sent immediately. */
bool route_may_send(const route_sender *sender);
void route_next(route_sender *sender, unsigned char *message, uint64_t now_ns);
/* True if the run is stopping and nothing is in flight any more. */
bool route_drained(const route_sender *sender);
/* Processes an ack. Anything but the 8 bytes of the oldest unacknowledged number is an error. */
void route_acked(route_sender *sender, const unsigned char *ack, size_t size, uint64_t now_ns);

/* Sums over all senders. */
uint64_t route_total(const route_sender *senders, unsigned count);

/* Prints the run's JSON object: the messages routed in the measured window, and their figures.
 * `errors` are those that no sender has counted; returns all of them together. */
uint64_t route_print(const char *program, const route_run *run, const route_sender *senders,
    uint64_t acks, uint64_t errors, double seconds);

#endif
