/* See channel.h. Everything that does not depend on the cipher. */
#define _GNU_SOURCE
#include "channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

channel_options channels = {.kind = &channel_plain, .suite = "aes"};

static const channel_events *events;
static int queue = -1;
static int watched_also = -1;
static unsigned opened;

_Noreturn void fail(const char *what) {
    fprintf(stderr, "%s: %s (%s)\n", program_invocation_short_name, what,
        errno != 0 ? strerror(errno) : "no system error");
    exit(1);
}

_Noreturn void usage(const char *what) {
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(2);
}

uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t patience_ns(void) {
    const char *factor = getenv("TWINPORT_TIME_FACTOR");
    double times = factor != NULL ? strtod(factor, NULL) : 1;
    return (uint64_t)(60e9 * (times >= 1 ? times : 1));
}

/* ---- the command line ------------------------------------------------------------------------ */

bool channels_option(const char *name, const char *value) {
    static const channel_kind *const kinds[] = {&channel_plain, &channel_tls, &channel_wan};
    if (strcmp(name, "--connect") == 0) {
        const char *colon = strrchr(value, ':');
        if (strncmp(value, "127.0.0.1:", 10) != 0) {
            usage("--connect takes 127.0.0.1:PORT");
        }
        channels.port = (uint16_t)strtoul(colon + 1, NULL, 10);
    } else if (strcmp(name, "--over") == 0) {
        channels.kind = NULL;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            if (strcmp(value, kinds[i]->name) == 0) {
                channels.kind = kinds[i];
            }
        }
        if (channels.kind == NULL) {
            usage("--over takes plain, tls or wan");
        }
    } else if (strcmp(name, "--server-key") == 0) {
        channels.server_key = value;
    } else if (strcmp(name, "--suite") == 0) {
        channels.suite = value;
    } else if (strcmp(name, "--sources") == 0) {
        channels.sources = (unsigned)strtoul(value, NULL, 10);
    } else {
        return false;
    }
    return true;
}

void channels_prepare(const channel_events *of) {
    if (channels.port == 0) {
        usage("--connect 127.0.0.1:PORT is missing");
    }
    events = of;
    queue = epoll_create1(EPOLL_CLOEXEC);
    if (queue < 0) {
        fail("no epoll");
    }
    if (channels.kind->prepare != NULL) {
        channels.kind->prepare();
    }
}

/* ---- one channel ----------------------------------------------------------------------------- */

/* The source address is one of 127.1.0.1 .. 127.1.250.250, for servers that count connections per
 * address. */
static void choose_source(int fd) {
    if (channels.sources > 0) {
        unsigned number = opened++ % channels.sources;
        struct sockaddr_in here = {.sin_family = AF_INET};
        here.sin_addr.s_addr =
            htonl(0x7F010000u | (number / 250 % 250 + 1) << 8 | (number % 250 + 1));
        const int on = 1;
        if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
            bind(fd, (struct sockaddr *)&here, sizeof here) != 0) {
            fail("cannot choose the source address");
        }
    }
}

void channel_open(channel *c) {
    const int on = 1;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(channels.port)};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *c = (channel){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (c->fd < 0) {
        fail("no socket");
    }
    choose_source(c->fd);
    if (channels.kind->make != NULL) {
        channels.kind->make(c);
    }
    /* The connect blocks, which takes no time on this machine; all later calls do not block. */
    if (connect(c->fd, (struct sockaddr *)&there, sizeof there) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) != 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) {
        fail("cannot connect");
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(queue, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        fail("cannot watch");
    }
    channels.kind->begin(c);
    if (c->ready) {
        events->ready(c);
    }
}

void channel_write(channel *c, const void *bytes, size_t size) {
    channels.kind->write(c, bytes, size);
}

void channel_close(channel *c) {
    if (c->fd >= 0) {
        channels.kind->end(c);
        close(c->fd);
        c->fd = -1;
        c->ready = false;
    }
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void watch_also(int also) {
    if (also != watched_also) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        if (epoll_ctl(queue, EPOLL_CTL_ADD, also, &event) != 0) {
            fail("cannot watch");
        }
        watched_also = also;
    }
}

int channels_serve(int timeout_ms, int also, void (*served)(channel *c, bool there)) {
    struct epoll_event found[256];
    if (also >= 0) {
        watch_also(also);
    }
    int count = epoll_wait(queue, found, 256, timeout_ms);
    bool other = false;
    for (int i = 0; i < count; i++) {
        channel *c = found[i].data.ptr;
        if (c == NULL) {
            other = true;
        } else if (c->fd >= 0) {
            served(c, channels.kind->readable(c, events));
        }
    }
    return other ? -1 : count < 0 ? 0 : count;
}
