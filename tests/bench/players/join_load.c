/*
 * bench-player-join: players that connect, send one message, receive its echo and disconnect;
 * `crowd` of them at a time. Full handshakes, nothing is resumed.
 *
 *     bench-player-join --connect 127.0.0.1:PORT --over plain|tls|wan
 *         [--server-key HEX --suite NAME]
 *         --crowd N --seconds S [--warm S] [--sources N] [--hello forged:KEY-ID|replayed]
 *
 * --hello (over plain): each player sends only a HELLO that costs this side nothing.
 *     forged:KEY-ID  of mode token: its token names a key that the server has, is not expired,
 *                    and is random otherwise; the server must close without an answer
 *     replayed       of mode open, genuine, the same each time: the server does its part of the
 *                    handshake, sends its WELCOME, and no first record follows
 *
 * SIGTERM ends the measured time early.
 *
 * Lines on stdout: `measuring` and `measured` around the measured window, then one JSON object, in
 * which a message is one player. One thread.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "channel.h"
#include "dummy/histogram.h"
#include "frames.h"
#include "proto/handshake.h"

enum { size = 64, look_ms = 20 };
enum { whole_player, hello_forged, hello_replayed };

typedef struct player {
    channel channel;
    frame_reader reader;
    uint64_t came_ns;
    bool answered;
} player;

static unsigned crowd;
static double seconds, warm_seconds = 0.3;
static int kind = whole_player;
static uint8_t key_id; /* hello_forged: of a key that the server has */
static uint8_t hello[TP_HELLO_MAX];
static size_t hello_size;
static volatile sig_atomic_t told_to_end;

static uint64_t joined, errors, here;
static bool going, measuring;
static histogram times;

static void come(player *p) {
    p->came_ns = clock_ns();
    p->reader.have = 0;
    p->answered = false;
    here++;
    channel_open(&p->channel);
}

static void go(player *p, bool good) {
    joined += good;
    errors += !good;
    if (good && measuring) {
        histogram_add(&times, clock_ns() - p->came_ns);
    }
    here--;
    channel_close(&p->channel);
    if (going) {
        come(p);
    }
}

/* ---- a HELLO only ---------------------------------------------------------------------------- */

static void write_replayed(void) {
    static tp_noise noise;
    uint8_t server_key[TP_KEY_SIZE];
    const tp_client_hello options = {
        .size = sizeof options, .suite = TP_SUITE_AES_256_GCM, .server_public = server_key};
    if (channels.server_key == NULL || !tp_key_parse(channels.server_key, server_key) ||
        tp_hello_write(&options, &noise, hello, &hello_size) != TP_OK) {
        usage("--hello replayed needs --server-key with 64 hexadecimal digits");
    }
}

/* The fields that are checked first are right; everything else is random, and different each
 * time. */
static void write_forged(void) {
    const uint64_t expiry = (uint64_t)time(NULL) + 3600;
    hello_size = TP_HELLO_TOKEN;
    if (getrandom(hello, hello_size, 0) != (ssize_t)hello_size) {
        fail("no random numbers");
    }
    memcpy(hello, "TPW1\x01\x01\0\0", TP_HELLO_FIXED);
    memset(hello + TP_HELLO_FIXED, 0, 4);
    hello[TP_HELLO_FIXED] = key_id;
    for (unsigned i = 0; i < 8; i++) {
        hello[TP_HELLO_FIXED + 4 + i] = (unsigned char)(expiry >> (8 * i));
    }
}

static bool read_hello(const char *text) {
    if (strcmp(text, "replayed") == 0) {
        kind = hello_replayed;
    } else if (strncmp(text, "forged:", 7) == 0) {
        kind = hello_forged;
        key_id = (uint8_t)strtoul(text + 7, NULL, 10);
    }
    return kind != whole_player;
}

/* ---- input ----------------------------------------------------------------------------------- */

static void on_ready(channel *c) {
    unsigned char message[frame_header + size];
    if (kind != whole_player) {
        if (kind == hello_forged) {
            write_forged();
        }
        channel_write(c, hello, hello_size);
        return;
    }
    frame_begin(message, size);
    memset(message + frame_header, 0x5A, size);
    channel_write(c, message, sizeof message);
}

static bool take_frame(void *context, unsigned char *frame, size_t whole) {
    player *p = context;
    p->answered = frame[3] == frame_data && whole == frame_header + size;
    return p->answered;
}

static void on_bytes(channel *c, const unsigned char *bytes, size_t count) {
    player *p = (player *)c;
    if (kind == hello_replayed) {
        p->answered = true; /* WELCOME or BUSY: both are an answer */
    } else if (kind == hello_forged ||
               !frames_take(&p->reader, frame_capacity(size), bytes, count, take_frame, p)) {
        fail("a wrong answer");
    }
}

static void served(channel *c, bool there) {
    player *p = (player *)c;
    if (p->answered) {
        go(p, true);
    } else if (!there) {
        go(p, kind == hello_forged);
    }
}

static void serve_until(uint64_t end_ns) {
    while (clock_ns() < end_ns && told_to_end == 0) {
        (void)channels_serve(look_ms, -1, served);
    }
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

static void end_early(int number) {
    told_to_end = number;
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--crowd") == 0) {
            crowd = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--warm") == 0) {
            warm_seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--hello") == 0) {
            if (!read_hello(value)) {
                usage("--hello takes forged:KEY-ID or replayed");
            }
        } else if (!channels_option(argv[i], value)) {
            usage("the options are --connect --over --crowd --seconds --warm --hello --server-key"
                  " --suite --sources");
        }
    }
    if (argc % 2 == 0 || crowd == 0 || !(seconds > 0) ||
        (kind != whole_player && channels.kind != &channel_plain)) {
        usage("--crowd N --seconds S are needed, and --hello goes over plain");
    }
    if (kind == hello_replayed) {
        write_replayed();
    }
}

int main(int argc, char **argv) {
    const channel_events events = {on_ready, on_bytes};
    read_options(argc, argv);
    signal(SIGTERM, end_early);
    channels_prepare(&events);
    player *players = calloc(crowd, sizeof *players);
    unsigned char *parts = calloc(crowd, frame_capacity(size));
    if (players == NULL || parts == NULL) {
        fail("no memory");
    }
    going = true;
    for (unsigned i = 0; i < crowd; i++) {
        players[i].reader.part = parts + i * frame_capacity(size);
        come(&players[i]);
    }
    serve_until(clock_ns() + (uint64_t)(warm_seconds * 1e9));
    say("measuring");
    measuring = true;
    uint64_t begin = clock_ns();
    uint64_t before = joined;
    serve_until(begin + (uint64_t)(seconds * 1e9));
    uint64_t measured = joined - before;
    double took = (double)(clock_ns() - begin) / 1e9;
    measuring = false;
    say("measured");
    going = false;
    uint64_t give_up = clock_ns() + patience_ns();
    while (here > 0 && clock_ns() < give_up) {
        (void)channels_serve(look_ms, -1, served);
    }
    errors += here;
    for (unsigned i = 0; i < crowd; i++) {
        channel_close(&players[i].channel);
    }
    free(parts);
    free(players);
    printf("{\"over\": \"%s\", \"crowd\": %u, \"seconds\": %.6f, \"messages\": %" PRIu64
           ", \"answers\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
        channels.kind->name, crowd, took, measured, joined, errors,
        (double)histogram_at(&times, 0.5) / 1e3, (double)histogram_at(&times, 0.99) / 1e3,
        (double)times.max / 1e3);
    return errors > 0;
}
