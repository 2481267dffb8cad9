/* bench-hold: holds many connections to a frame server, reads all that comes, and counts each
 * connection's DATA frames. It shares no code with twinport.
 *
 *     bench-hold --connect 127.0.0.1:PORT --connections N --size B
 *
 * stdout: `connected N` once all are. Then it obeys lines on stdin:
 *     echo      sends one frame of B bytes on each connection, waits until each has one frame more
 *               than before, and says `echoed N`
 *     wait F    waits until each connection has F frames and says `have F`
 *     count     says `frames MIN MAX BYTES`, over all connections
 * The end of stdin ends it; its connections are reset, so that none stays in TIME_WAIT. It exits
 * with 1 and a message if a connection is lost, a frame is not B bytes long, or nothing comes for
 * 20 s.
 *
 * One thread, one epoll set. A PING is answered, as a client must. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { frame_header = 4, frame_data = 0, frame_ping = 1, frame_pong = 2, ping_most = 32 };
enum { give_up_ms = 20000, sends_in_a_row = 16, room = 64 * 1024 };

struct client {
    int fd;
    unsigned header_have;
    unsigned char header[frame_header];
    uint32_t payload_left;
    unsigned char ping[frame_header + ping_most]; /* the PONG that answers the PING being read */
    unsigned ping_have;
    uint64_t frames;
};

static struct client *clients;
static unsigned client_count;
static uint32_t size;
static int queue;
static uint64_t bytes_read;
static uint64_t goal;        /* frames that each connection is to have */
static unsigned short_of_it; /* connections that have fewer */

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "bench-hold: %s (%s)\n", what, strerror(errno));
    exit(1);
}

static void begin_frame(struct client *client) {
    const unsigned char *h = client->header;
    client->payload_left = (uint32_t)h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16;
    client->ping_have = 0;
    if (h[3] == frame_ping && client->payload_left <= ping_most) {
        memcpy(client->ping, h, frame_header);
        client->ping[3] = frame_pong;
        client->ping_have = frame_header;
    } else if (h[3] != frame_data || client->payload_left != size) {
        errno = EPROTO;
        fail("an unexpected frame");
    }
}

static void end_frame(struct client *client) {
    client->header_have = 0;
    if (client->ping_have != 0) {
        if (send(client->fd, client->ping, client->ping_have, MSG_NOSIGNAL) !=
            (ssize_t)client->ping_have) {
            fail("cannot answer a PING");
        }
        return;
    }
    if (++client->frames == goal) {
        short_of_it--;
    }
}

static void take(struct client *client, const unsigned char *bytes, size_t count) {
    while (count != 0) {
        if (client->header_have < frame_header) {
            client->header[client->header_have++] = *bytes++;
            count--;
            if (client->header_have == frame_header) {
                begin_frame(client);
            }
        } else {
            size_t part = count < client->payload_left ? count : client->payload_left;
            if (client->ping_have != 0) {
                memcpy(client->ping + client->ping_have, bytes, part);
                client->ping_have += (unsigned)part;
            }
            client->payload_left -= (uint32_t)part;
            bytes += part;
            count -= part;
        }
        if (client->header_have == frame_header && client->payload_left == 0) {
            end_frame(client);
        }
    }
}

static void on_readable(struct client *client) {
    static unsigned char bytes[room];
    ssize_t count = recv(client->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count > 0) {
        bytes_read += (uint64_t)count;
        take(client, bytes, (size_t)count);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        fail("a connection is lost");
    }
}

/* Serves one wait's events. False if stdin has something. */
static bool serve_once(int timeout_ms) {
    struct epoll_event events[256];
    int count = epoll_wait(queue, events, 256, timeout_ms);
    if (count == 0) {
        errno = ETIMEDOUT;
        fail("nothing comes");
    }
    bool go_on = true;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL) {
            go_on = false;
        } else {
            on_readable(events[i].data.ptr);
        }
    }
    return go_on;
}

static void set_goal(uint64_t frames) {
    goal = frames;
    short_of_it = 0;
    for (unsigned i = 0; i < client_count; i++) {
        short_of_it += clients[i].frames < goal;
    }
}

/* One line is obeyed at a time, so what stdin can have while this waits is its end. */
static void serve_towards_goal(void) {
    if (!serve_once(give_up_ms)) {
        errno = ECANCELED;
        fail("stdin has ended");
    }
}

static void wait_for_goal(void) {
    while (short_of_it != 0) {
        serve_towards_goal();
    }
}

/* Few at a time: what a server needs for a burst is not what it needs for a session. */
static void echo_all(void) {
    unsigned char *frame = calloc(1, frame_header + size);
    if (frame == NULL) {
        fail("no memory");
    }
    frame[0] = (unsigned char)size;
    frame[1] = (unsigned char)(size >> 8);
    frame[2] = (unsigned char)(size >> 16);
    set_goal(clients[0].frames + 1);
    for (unsigned i = 0; i < client_count; i++) {
        if (send(clients[i].fd, frame, frame_header + size, MSG_NOSIGNAL) !=
            (ssize_t)(frame_header + size)) {
            fail("cannot send");
        }
        unsigned sent = i + 1;
        while (sent % sends_in_a_row == 0 && short_of_it > client_count - sent) {
            serve_towards_goal();
        }
    }
    wait_for_goal();
    free(frame);
}

static void say_count(void) {
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    for (unsigned i = 0; i < client_count; i++) {
        least = clients[i].frames < least ? clients[i].frames : least;
        most = clients[i].frames > most ? clients[i].frames : most;
    }
    printf("frames %llu %llu %llu\n", (unsigned long long)least, (unsigned long long)most,
        (unsigned long long)bytes_read);
}

static void obey(const char *line) {
    if (strncmp(line, "echo", 4) == 0) {
        echo_all();
        printf("echoed %u\n", client_count);
    } else if (strncmp(line, "wait ", 5) == 0) {
        set_goal(strtoull(line + 5, NULL, 10));
        wait_for_goal();
        printf("have %llu\n", (unsigned long long)goal);
    } else if (strncmp(line, "count", 5) == 0) {
        say_count();
    } else {
        errno = EINVAL;
        fail("what?");
    }
    fflush(stdout);
}

static void connect_all(const char *port) {
    const int on = 1;
    struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (unsigned i = 0; i < client_count; i++) {
        struct client *client = &clients[i];
        client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&there, sizeof there) != 0 ||
            setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
            setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) != 0) {
            fail("cannot connect");
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(queue, EPOLL_CTL_ADD, client->fd, &event) != 0) {
            fail("cannot watch");
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 7 || strcmp(argv[1], "--connect") != 0 || strncmp(argv[2], "127.0.0.1:", 10) != 0 ||
        strcmp(argv[3], "--connections") != 0 || strcmp(argv[5], "--size") != 0) {
        fprintf(stderr, "usage: %s --connect 127.0.0.1:PORT --connections N --size B\n", argv[0]);
        return 2;
    }
    client_count = (unsigned)strtoul(argv[4], NULL, 10);
    size = (uint32_t)strtoul(argv[6], NULL, 10);
    clients = calloc(client_count, sizeof *clients);
    queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event on_stdin = {.events = EPOLLIN, .data.ptr = NULL};
    if (client_count == 0 || size == 0 || size > 0xFFFFFF || clients == NULL || queue < 0 ||
        epoll_ctl(queue, EPOLL_CTL_ADD, STDIN_FILENO, &on_stdin) != 0) {
        fail("cannot begin");
    }
    connect_all(argv[2] + 10);
    printf("connected %u\n", client_count);
    fflush(stdout);
    for (;;) {
        while (serve_once(-1)) {
        }
        char line[64];
        ssize_t length = read(STDIN_FILENO, line, sizeof line - 1);
        if (length <= 0) {
            return 0;
        }
        line[length] = '\0';
        obey(line);
    }
}
