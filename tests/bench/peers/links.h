/* The connections of a load on a bus or relay, without its protocol: one sender and one receiver
 * connection for each pair. Everything that one read brings is worked through before one write says
 * all that it led to. The traffic is route_load.h's; a protocol fills in how a message looks on the
 * wire.
 *
 * One thread serves all connections, in one epoll set; or, with --threads each, every connection
 * has a thread of its own. A link is touched by its thread alone. The main thread keeps the time
 * and prints `measuring` and `measured` around the measured window, then one JSON object. */
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
    bool wants_room;      /* watched for writing, because output waits */
    size_t in_size, out_at, out_size;
    unsigned char *in, *out;
} link_state;

typedef struct links_protocol {
    const char *program;
    /* Says what a new connection begins with. */
    void (*hello)(link_state *link);
    /* Takes one unit off the input (which may be changed); returns its bytes, or 0 if they are not
     * all there. `now_ns` is the time of the read. */
    size_t (*take)(link_state *link, unsigned char *bytes, size_t size, uint64_t now_ns);
    /* Says a sender's message to its receiver. */
    void (*message)(link_state *link, const unsigned char *payload, size_t size);
} links_protocol;

/* The whole program; returns its exit code. */
int links_run(const links_protocol *protocol, int argc, char **argv);

/* For `hello`, `take` and `message`: */
void links_put(
    link_state *link, const void *bytes, size_t size); /* to be written after the batch */
void links_ready(
    link_state *link); /* what the link needs of the server stands; load begins when all do */
/* A payload has come. True if it was a whole message at its receiver: answer its sender with its
 * first route_ack_size bytes. An ack at its sender, and anything wrong, is accounted for; false. */
bool links_arrived(link_state *link, const unsigned char *payload, size_t size, uint64_t now_ns);
_Noreturn void links_fail(const char *what);

#endif
