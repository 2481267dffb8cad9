/* See links.h. */
#define _GNU_SOURCE
#include "links.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { input_room = 256 * 1024, output_room = 4 * 1024 * 1024 };
/* look_ms: how often a thread without traffic checks the state. */
enum { give_up_ms = 5000, look_ms = 20 };

/* The links that one thread serves. */
typedef struct shard {
    int queue;
    link_state *first;
    unsigned count;
    pthread_t thread;
} shard;

static const links_protocol *protocol;
static route_run run;
static route_sender *senders;
static link_state *links;
static unsigned link_count;
static atomic_uint ready_count, drained_count;
static atomic_uint_fast64_t receiver_errors;

_Noreturn void links_fail(const char *what) {
    fprintf(stderr, "%s: %s\n", protocol->program, what);
    exit(1);
}

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void links_put(link_state *link, const void *bytes, size_t size) {
    if (output_room - link->out_size < size) {
        links_fail("the server does not read");
    }
    memcpy(link->out + link->out_size, bytes, size);
    link->out_size += size;
}

static void watch(link_state *link, int operation) {
    struct epoll_event event = {.data.ptr = link};
    event.events = link->wants_room ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (epoll_ctl(link->queue, operation, link->fd, &event) != 0) {
        links_fail("epoll_ctl");
    }
}

static void flush(link_state *link) {
    while (link->out_at < link->out_size) {
        ssize_t sent =
            send(link->fd, link->out + link->out_at, link->out_size - link->out_at, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR && errno != EAGAIN) {
            links_fail("the server has closed a connection");
        }
        if (sent < 0 && errno == EAGAIN) {
            break;
        }
        link->out_at += sent > 0 ? (size_t)sent : 0;
    }
    bool waits = link->out_at < link->out_size;
    if (!waits) {
        link->out_at = link->out_size = 0;
    }
    if (waits != link->wants_room) {
        link->wants_room = waits;
        watch(link, EPOLL_CTL_MOD);
    }
}

static void fill_window(link_state *link, uint64_t now) {
    unsigned char message[route_size_most];
    while (route_may_send(link->sender)) {
        route_next(link->sender, message, now);
        protocol->message(link, message, run.options.size);
    }
}

void links_ready(link_state *link) {
    if (!link->ready) {
        link->ready = true;
        atomic_fetch_add_explicit(&ready_count, 1, memory_order_relaxed);
    }
}

bool links_arrived(link_state *link, const unsigned char *payload, size_t size, uint64_t now_ns) {
    uint64_t number;
    if (link->sender != NULL) {
        route_acked(link->sender, payload, size, now_ns);
        return false;
    }
    if (size != run.options.size || !route_check(payload, size, &number)) {
        atomic_fetch_add_explicit(&receiver_errors, 1, memory_order_relaxed);
        return false;
    }
    return true;
}

static bool all_ready(void) {
    return atomic_load_explicit(&ready_count, memory_order_relaxed) == link_count;
}

static bool all_drained(void) {
    return atomic_load_explicit(&drained_count, memory_order_relaxed) == run.options.pairs;
}

static void on_readable(link_state *link) {
    ssize_t received = recv(link->fd, link->in + link->in_size, input_room - link->in_size, 0);
    if (received <= 0) {
        if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        links_fail("the server has closed a connection");
    }
    link->in_size += (size_t)received;
    uint64_t now = clock_ns();
    size_t at = 0;
    while (at < link->in_size) {
        size_t used = protocol->take(link, link->in + at, link->in_size - at, now);
        if (used == 0) {
            break;
        }
        at += used;
    }
    link->in_size -= at;
    memmove(link->in, link->in + at, link->in_size);
    if (link->in_size == input_room) {
        links_fail("input that makes no sense");
    }
    if (link->sender != NULL && all_ready()) {
        fill_window(link, now);
        if (!link->drained && route_drained(link->sender)) {
            link->drained = true;
            atomic_fetch_add_explicit(&drained_count, 1, memory_order_relaxed);
        }
    }
    flush(link);
}

/* Serves the shard until `done` returns true. False if that does not happen within give_up_ms after
 * `begun` (NULL: now) was first true. */
static bool serve(shard *of, bool (*done)(void), const atomic_bool *begun) {
    struct epoll_event events[64];
    uint64_t give_up_ns = 0;
    while (!done()) {
        if (begun == NULL || atomic_load_explicit(begun, memory_order_relaxed)) {
            uint64_t now = clock_ns();
            give_up_ns = give_up_ns == 0 ? now + give_up_ms * UINT64_C(1000000) : give_up_ns;
            if (now > give_up_ns) {
                return false;
            }
        }
        int count = epoll_wait(of->queue, events, 64, look_ms);
        for (int i = 0; i < count; i++) {
            link_state *link = events[i].data.ptr;
            if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
                on_readable(link);
            } else {
                flush(link);
            }
        }
    }
    return true;
}

static void *shard_main(void *argument) {
    shard *of = argument;
    if (!serve(of, all_ready, NULL)) {
        links_fail("the server does not answer");
    }
    for (unsigned i = 0; i < of->count; i++) {
        if (of->first[i].sender != NULL) {
            fill_window(&of->first[i], clock_ns());
            flush(&of->first[i]);
        }
    }
    serve(of, all_drained, &run.stopping);
    return NULL;
}

static void open_link(link_state *link, int queue, unsigned pair, route_sender *sender) {
    const int on = 1;
    struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)run.options.port)};
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    link->queue = queue;
    link->pair = pair;
    link->sender = sender;
    link->in = malloc(input_room);
    link->out = malloc(output_room);
    if (link->in == NULL || link->out == NULL ||
        inet_pton(AF_INET, run.options.host, &there.sin_addr) != 1 ||
        connect(link->fd, (struct sockaddr *)&there, sizeof there) != 0 ||
        setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        links_fail("cannot connect");
    }
    watch(link, EPOLL_CTL_ADD);
    protocol->hello(link);
    flush(link);
}

static void open_shard(shard *of, unsigned first, unsigned count) {
    of->first = &links[first];
    of->count = count;
    of->queue = epoll_create1(EPOLL_CLOEXEC);
    if (of->queue < 0) {
        links_fail("no epoll");
    }
    for (unsigned i = first; i < first + count; i++) {
        open_link(&links[i], of->queue, i / 2, i % 2 == 0 ? &senders[i / 2] : NULL);
    }
}

static void rest(double seconds) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    uint64_t end_ns = (uint64_t)end.tv_nsec + (uint64_t)(seconds * 1e9);
    end.tv_sec += (time_t)(end_ns / 1000000000u);
    end.tv_nsec = (long)(end_ns % 1000000000u);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
    }
}

static void say(const char *line) {
    printf("%s\n", line);
    fflush(stdout);
}

/* Acks of the measured window, and its length. */
static uint64_t measure(double *seconds) {
    while (!all_ready()) {
        rest(0.005); /* a shard whose wait fails ends the process */
    }
    rest(run.options.warm_seconds);
    say("measuring");
    atomic_store(&run.measuring, true);
    uint64_t begin = clock_ns();
    uint64_t before = route_total(senders, run.options.pairs);
    rest(run.options.seconds);
    uint64_t acks = route_total(senders, run.options.pairs) - before;
    *seconds = (double)(clock_ns() - begin) / 1e9;
    atomic_store(&run.measuring, false);
    say("measured");
    return acks;
}

int links_run(const links_protocol *of, int argc, char **argv) {
    protocol = of;
    route_read_options(&run.options, argc, argv);
    link_count = 2 * run.options.pairs;
    unsigned shard_count = run.options.threads_each ? link_count : 1;
    shard *shards = calloc(shard_count, sizeof *shards);
    senders = calloc(run.options.pairs, sizeof *senders);
    links = calloc(link_count, sizeof *links);
    if (shards == NULL || senders == NULL || links == NULL) {
        links_fail("no memory");
    }
    for (unsigned i = 0; i < run.options.pairs; i++) {
        senders[i].run = &run;
    }
    for (unsigned i = 0; i < shard_count; i++) {
        open_shard(&shards[i], i * (link_count / shard_count), link_count / shard_count);
    }
    for (unsigned i = 0; i < shard_count; i++) {
        if (pthread_create(&shards[i].thread, NULL, shard_main, &shards[i]) != 0) {
            links_fail("no thread");
        }
    }
    double seconds;
    uint64_t acks = measure(&seconds);
    atomic_store(&run.stopping, true);
    uint64_t errors = 0;
    for (unsigned i = 0; i < shard_count; i++) {
        pthread_join(shards[i].thread, NULL);
    }
    for (unsigned i = 0; i < run.options.pairs; i++) {
        errors += senders[i].next - atomic_load(&senders[i].acked);
    }
    errors += atomic_load(&receiver_errors);
    if (acks == 0) {
        links_fail("nothing came through");
    }
    return route_print(protocol->program, &run, senders, acks, errors, seconds) != 0;
}
