/*
 * The connections of a load on a bus or relay, without its protocol: one sender and one receiver
 * connection for each pair. Everything that one read returns is processed before one write sends
 * all its results. The traffic is that of route_load.h; a protocol defines the messages' bytes.
 *
 * One thread serves all connections, in one epoll set; or, with --threads each, every connection
 * has a thread. A link is used by its thread alone. The main thread keeps the time and prints
 * `measuring` and `measured` around the measured window, then one JSON object.
 */
#ifndef TWINPORT_BENCH_LINKS_H
#define TWINPORT_BENCH_LINKS_H

#include "../route_load.h"

typedef struct link_state {
    int fd;
    int queue; /* the epoll set of its thread */
    unsigned pair;
    route_sender *sender; /* NULL: the pair's receiver */
    bool ready;           /* links_ready() was called for it */
    bool drained;         /* counted as such */
    bool wants_room;      /* watched for writing, because there is unsent output */
    size_t in_size, out_at, out_size;
    unsigned char *in, *out;
} link_state;

typedef struct links_protocol {
    const char *program;
    /* Sends the first bytes of a new connection. */
    void (*hello)(link_state *link);
    /* Takes one unit from the input (which may be changed). Returns its size, or 0 if it is
     * incomplete. `now_ns` is the time of the read. */
    size_t (*take)(link_state *link, unsigned char *bytes, size_t size, uint64_t now_ns);
    /* Sends a sender's message to its receiver. */
    void (*message)(link_state *link, const unsigned char *payload, size_t size);
} links_protocol;

/* Runs the whole program; returns its exit code. */
int links_run(const links_protocol *protocol, int argc, char **argv);

/* For `hello`, `take` and `message`: */
void links_put(
    link_state *link, const void *bytes, size_t size); /* to be written after the batch */
void links_ready(link_state *link); /* the link is ready; the load begins when all are */
/* A payload has been received. True if it was a whole message at its receiver: answer its sender
 * with its first route_ack_size bytes. False for an ack at its sender and for anything wrong, which
 * is counted. */
bool links_arrived(link_state *link, const unsigned char *payload, size_t size, uint64_t now_ns);
_Noreturn void links_fail(const char *what);

#endif
