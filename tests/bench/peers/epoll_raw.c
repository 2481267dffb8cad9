/*
 * peer-epoll-raw: the lower bound of the echo table. Level-triggered epoll; what one read returns
 * is written back by one write. It never looks at a message, keeps nothing per connection as long
 * as the kernel takes everything, and makes no avoidable system call: many events per wait, one
 * recv and one send per event, and the interest is changed only when the kernel's send buffer is
 * full.
 *
 * One thread owns everything. A connection is identified by its descriptor. While a connection has
 * unsent bytes it is watched for writing only. So an event for writing means that there are unsent
 * bytes, and at most one read's worth is kept.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { events_per_wait = 1024, bytes_per_read = 64 * 1024 };

struct rest {
    size_t at, size;
    unsigned char bytes[];
};

static int queue;
static struct rest **rests; /* by descriptor */
static size_t descriptors;
static unsigned char bytes[bytes_per_read];

static void drop(int client) {
    free(rests[client]);
    rests[client] = NULL;
    close(client);
}

static int watch(int operation, int fd, uint32_t interest) {
    struct epoll_event event = {.events = interest, .data.fd = fd};
    return epoll_ctl(queue, operation, fd, &event);
}

static void keep_rest(int client, const unsigned char *from, size_t size) {
    struct rest *rest = malloc(sizeof *rest + size);
    if (rest == NULL || watch(EPOLL_CTL_MOD, client, EPOLLOUT) != 0) {
        free(rest);
        drop(client);
        return;
    }
    rest->at = 0;
    rest->size = size;
    memcpy(rest->bytes, from, size);
    rests[client] = rest;
}

static void send_rest(int client) {
    struct rest *rest = rests[client];
    ssize_t sent = send(client, rest->bytes + rest->at, rest->size - rest->at, 0);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            drop(client);
        }
        return;
    }
    rest->at += (size_t)sent;
    if (rest->at == rest->size) {
        free(rest);
        rests[client] = NULL;
        if (watch(EPOLL_CTL_MOD, client, EPOLLIN) != 0) {
            drop(client);
        }
    }
}

static void echo(int client) {
    ssize_t received = recv(client, bytes, sizeof bytes, 0);
    if (received <= 0) {
        if (received == 0 || (errno != EAGAIN && errno != EINTR)) {
            drop(client);
        }
        return;
    }
    ssize_t sent = send(client, bytes, (size_t)received, 0);
    if (sent == received) {
        return;
    }
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            drop(client);
            return;
        }
        sent = 0;
    }
    keep_rest(client, bytes + sent, (size_t)(received - sent));
}

static void accept_all(int listener) {
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            return;
        }
        if ((size_t)client >= descriptors || watch(EPOLL_CTL_ADD, client, EPOLLIN) != 0) {
            close(client);
        }
    }
}

int main(int argc, char **argv) {
    uint16_t port = peer_start(argc, argv);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1;
    }
    descriptors = (size_t)limit.rlim_cur;
    rests = calloc(descriptors, sizeof *rests);
    queue = epoll_create1(EPOLL_CLOEXEC);
    if (rests == NULL || queue < 0) {
        fprintf(stderr, "no memory or no epoll\n");
        return 1;
    }
    int listener = peer_listen(port);
    if (watch(EPOLL_CTL_ADD, listener, EPOLLIN) != 0) {
        return 1;
    }
    static struct epoll_event events[events_per_wait];
    for (;;) {
        int count = epoll_wait(queue, events, events_per_wait, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
            } else if ((events[i].events & EPOLLOUT) != 0 || rests[fd] != NULL) {
                send_rest(fd);
            } else {
                echo(fd);
            }
        }
    }
}
