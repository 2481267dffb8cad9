/* A channel without a cipher, and the socket calls that all channels use. */
#define _GNU_SOURCE
#include "channel_socket.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

enum { room = 64 * 1024 };

void socket_wait_for_room(int fd) {
    struct pollfd wanted = {.fd = fd, .events = POLLOUT};
    if (poll(&wanted, 1, (int)(patience_ns() / 1000000)) == 0) {
        fail("the server does not read");
    }
}

void socket_send(int fd, const unsigned char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        } else if (errno == EAGAIN) {
            socket_wait_for_room(fd);
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return; /* the next receive reports it */
        } else if (errno != EINTR) {
            fail("cannot send");
        }
    }
}

ssize_t socket_receive(int fd, unsigned char *bytes, size_t size) {
    ssize_t received = recv(fd, bytes, size, 0);
    if (received > 0) {
        return received;
    }
    return received < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void plain_begin(channel *c) {
    c->ready = true;
}

static bool plain_readable(channel *c, const channel_events *events) {
    static unsigned char bytes[room];
    ssize_t received = socket_receive(c->fd, bytes, sizeof bytes);
    if (received > 0) {
        events->bytes(c, bytes, (size_t)received);
    }
    return received >= 0;
}

static void plain_write(channel *c, const unsigned char *bytes, size_t size) {
    socket_send(c->fd, bytes, size);
}

static void plain_end(channel *c) {
    (void)c;
}

const channel_kind channel_plain = {
    .name = "plain",
    .begin = plain_begin,
    .readable = plain_readable,
    .write = plain_write,
    .end = plain_end,
};
