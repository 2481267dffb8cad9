/*
 * peer-epoll-relay: the lower bound of the bus table. It joins every two connections, in the order
 * in which they were accepted, and writes what one read returns on one side to the other side with
 * one write. It never looks at a message: no routing is cheaper.
 *
 * Level-triggered epoll, one thread. A side with unsent bytes is watched for writing, and its
 * partner is not read meanwhile, so at most one read's worth is kept per side.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { events_per_wait = 256, bytes_per_read = 64 * 1024 };

struct joint;

struct side {
    int fd;
    struct joint *joint;
    struct side *partner;
    unsigned char *rest; /* for this side, from its partner */
    size_t rest_at, rest_size;
};

struct joint {
    struct side sides[2];
    bool ended; /* freed after the current batch of events, which may contain both sides */
    struct joint *next_ended;
};

static int queue;
static struct joint *waiting; /* its second side has not connected yet */
static struct joint *ended;
static unsigned char bytes[bytes_per_read];

static void end(struct joint *joint) {
    if (!joint->ended) {
        joint->ended = true;
        joint->next_ended = ended;
        ended = joint;
    }
}

static void free_ended(void) {
    while (ended != NULL) {
        struct joint *joint = ended;
        ended = joint->next_ended;
        for (int i = 0; i < 2; i++) {
            free(joint->sides[i].rest);
            close(joint->sides[i].fd);
        }
        free(joint);
    }
}

static void watch(int operation, struct side *side) {
    struct epoll_event event = {.data.ptr = side};
    event.events = side->partner->rest == NULL ? (uint32_t)EPOLLIN : 0;
    event.events |= side->rest != NULL ? (uint32_t)EPOLLOUT : 0;
    if (epoll_ctl(queue, operation, side->fd, &event) != 0) {
        end(side->joint);
    }
}

static void watch_both(struct side *side) {
    watch(EPOLL_CTL_MOD, side);
    watch(EPOLL_CTL_MOD, side->partner);
}

static void send_rest(struct side *side) {
    ssize_t sent = send(side->fd, side->rest + side->rest_at, side->rest_size - side->rest_at, 0);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            end(side->joint);
        }
        return;
    }
    side->rest_at += (size_t)sent;
    if (side->rest_at == side->rest_size) {
        free(side->rest);
        side->rest = NULL;
        watch_both(side);
    }
}

static void pass_on(struct side *from) {
    ssize_t received = recv(from->fd, bytes, sizeof bytes, 0);
    if (received <= 0) {
        if (received == 0 || (errno != EAGAIN && errno != EINTR)) {
            end(from->joint);
        }
        return;
    }
    struct side *to = from->partner;
    ssize_t sent = send(to->fd, bytes, (size_t)received, 0);
    if (sent == received) {
        return;
    }
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        end(from->joint);
        return;
    }
    size_t begin = sent < 0 ? 0 : (size_t)sent;
    to->rest_at = 0;
    to->rest_size = (size_t)received - begin;
    to->rest = malloc(to->rest_size);
    if (to->rest == NULL) {
        end(from->joint);
        return;
    }
    memcpy(to->rest, bytes + begin, to->rest_size);
    watch_both(to);
}

static void join(int client) {
    if (waiting == NULL) {
        waiting = calloc(1, sizeof *waiting);
        if (waiting == NULL) {
            close(client);
            return;
        }
        waiting->sides[0].fd = client;
        return;
    }
    struct joint *joint = waiting;
    waiting = NULL;
    joint->sides[1].fd = client;
    for (int i = 0; i < 2; i++) {
        joint->sides[i].joint = joint;
        joint->sides[i].partner = &joint->sides[1 - i];
    }
    watch(EPOLL_CTL_ADD, &joint->sides[0]);
    watch(EPOLL_CTL_ADD, &joint->sides[1]);
}

int main(int argc, char **argv) {
    uint16_t port = peer_start(argc, argv);
    queue = epoll_create1(EPOLL_CLOEXEC);
    int listener = peer_listen(port);
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = NULL};
    if (queue < 0 || epoll_ctl(queue, EPOLL_CTL_ADD, listener, &on_listener) != 0) {
        fprintf(stderr, "no epoll\n");
        return 1;
    }
    static struct epoll_event events[events_per_wait];
    for (;;) {
        int count = epoll_wait(queue, events, events_per_wait, -1);
        for (int i = 0; i < count; i++) {
            struct side *side = events[i].data.ptr;
            if (side == NULL) {
                int client;
                while (
                    (client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    join(client);
                }
            } else if (side->joint->ended) {
                continue;
            } else if (side->rest != NULL && (events[i].events & EPOLLOUT) != 0) {
                send_rest(side);
            } else {
                pass_on(side);
            }
        }
        free_ended();
    }
}
