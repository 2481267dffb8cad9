/*
 * bench-hold: holds many connections to a server of frames, reads all that comes, and counts each
 * connection's DATA frames. Over plain it shares no code with twinport.
 *
 *     bench-hold --connect 127.0.0.1:PORT --connections N --size B
 *         [--over plain|tls|wan --server-key HEX --suite NAME --sources N]
 *
 * stdout: `connected N` once all are connected. Then it obeys lines on stdin:
 *     echo      sends one frame of B bytes on each connection, waits until each has one frame more
 *               than before, and prints `echoed N`
 *     wait F    waits until each connection has F frames and prints `have F`
 *     count     prints `frames MIN MAX BYTES`, over all connections
 * It ends with stdin; its connections are reset, so that none stays in TIME_WAIT. It exits with 1
 * and a message if a connection is lost, a frame is not B bytes long, or nothing comes for a
 * minute.
 *
 * One thread, one epoll set. A PING is answered, as a client must. Only few connections connect or
 * send at a time, because a burst needs other memory of a server than its sessions do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "frames.h"

enum { at_once = 16 };

typedef struct client {
    channel channel;
    frame_reader reader;
    uint64_t frames;
} client;

static client *clients;
static unsigned client_count, ready;
static size_t size;
static uint64_t bytes_read;
static uint64_t goal;        /* frames that each connection shall have */
static unsigned short_of_it; /* connections that have fewer */

static bool take_frame(void *context, unsigned char *frame, size_t whole) {
    client *of = context;
    if (frame[3] == frame_ping) {
        frame[3] = frame_pong;
        channel_write(&of->channel, frame, whole);
        return true;
    }
    if (++of->frames == goal) {
        short_of_it--;
    }
    return frame[3] == frame_data && whole == frame_header + size;
}

static void on_ready(channel *c) {
    (void)c;
    ready++;
}

static void on_bytes(channel *c, const unsigned char *bytes, size_t count) {
    client *of = (client *)c;
    bytes_read += count;
    if (!frames_take(&of->reader, frame_capacity(size), bytes, count, take_frame, of)) {
        errno = EPROTO;
        fail("an unexpected frame");
    }
}

static void served(channel *c, bool there) {
    (void)c;
    if (!there) {
        fail("a connection is lost");
    }
}

static void set_goal(uint64_t frames) {
    goal = frames;
    short_of_it = 0;
    for (unsigned i = 0; i < client_count; i++) {
        short_of_it += clients[i].frames < goal;
    }
}

/* One line is obeyed at a time, so while this waits, stdin becomes readable only by its end. */
static void serve_towards_goal(void) {
    int count = channels_serve((int)(patience_ns() / 1000000), STDIN_FILENO, served);
    if (count <= 0) {
        errno = count < 0 ? ECANCELED : ETIMEDOUT;
        fail(count < 0 ? "stdin has ended" : "nothing comes");
    }
}

static void wait_for_goal(void) {
    while (short_of_it != 0) {
        serve_towards_goal();
    }
}

static void echo_all(void) {
    unsigned char *frame = calloc(1, frame_header + size);
    if (frame == NULL) {
        fail("no memory");
    }
    frame_begin(frame, size);
    set_goal(clients[0].frames + 1);
    for (unsigned i = 0; i < client_count; i++) {
        channel_write(&clients[i].channel, frame, frame_header + size);
        unsigned sent = i + 1;
        while (sent % at_once == 0 && short_of_it > client_count - sent) {
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
        fail("an unknown line on stdin");
    }
    fflush(stdout);
}

static void connect_all(void) {
    for (unsigned i = 0; i < client_count; i++) {
        clients[i].reader.part = malloc(frame_capacity(size));
        if (clients[i].reader.part == NULL) {
            fail("no memory");
        }
        channel_open(&clients[i].channel);
        while (i + 1 - ready >= at_once || (i + 1 == client_count && ready < client_count)) {
            serve_towards_goal();
        }
    }
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connections") == 0) {
            client_count = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--size") == 0) {
            size = strtoul(argv[i + 1], NULL, 10);
        } else if (!channels_option(argv[i], argv[i + 1])) {
            usage("the options are --connect --connections --size --over --server-key --suite "
                  "--sources");
        }
    }
    if (argc % 2 == 0 || client_count == 0 || size == 0 || size > 0xFFFFFF) {
        usage("--connections N and --size B are needed");
    }
}

int main(int argc, char **argv) {
    const channel_events events = {on_ready, on_bytes};
    read_options(argc, argv);
    clients = calloc(client_count, sizeof *clients);
    if (clients == NULL) {
        fail("no memory");
    }
    channels_prepare(&events);
    connect_all();
    printf("connected %u\n", client_count);
    fflush(stdout);
    for (;;) {
        while (channels_serve(-1, STDIN_FILENO, served) >= 0) {
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
