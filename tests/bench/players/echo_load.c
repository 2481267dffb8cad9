/*
 * bench-player-echo: players that each keep `window` messages in flight to an echo server, and
 * compare every byte that comes back.
 *
 *     bench-player-echo --connect 127.0.0.1:PORT --over plain|tls|wan
 *         [--server-key HEX --suite NAME]
 *         --connections N --window W --size B --seconds S [--warm S] [--patience S] [--sources N]
 *
 * Lines on stdout: `measuring` and `measured` around the measured window, then one JSON object. All
 * messages that one receive makes due are sent in one write, as one record. SIGTERM ends the
 * measured time early.
 *
 * One thread. A player is identified by its channel, its first member.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "dummy/histogram.h"
#include "frames.h"

enum { window_most = 1024, size_least = 8, size_most = 64 * 1024 };
enum { opening_most = 32, look_ms = 20 };

typedef struct player {
    channel channel;
    frame_reader reader;
    uint64_t sent, answered; /* invariant: answered <= sent <= answered + window */
    uint64_t *sent_ns;       /* of message n at n % window */
} player;

static unsigned connections, window;
static size_t size;
static double seconds, warm_seconds = 0.3;
/* The time-out until all are ready, and at the end for what is outstanding. */
static uint64_t give_up_ns;

static player *players;
static unsigned opened, ready;
static uint64_t answers, errors, lost, outstanding;
static uint64_t now_ns; /* of the receive being processed */
static bool going, measuring;
static histogram round_trips;
static volatile sig_atomic_t told_to_end;

/* A message is its number and a pattern of number and player. */
static void write_message(const player *p, uint64_t number, unsigned char *payload) {
    for (unsigned i = 0; i < size_least; i++) {
        payload[i] = (unsigned char)(number >> (8 * i));
    }
    memset(
        payload + size_least, (int)((number + (uint64_t)(p - players)) & 0xFF), size - size_least);
}

static void fill_window(player *p) {
    static unsigned char out[window_most * (frame_header + 64) + size_most];
    size_t used = 0;
    while (going && p->sent - p->answered < window) {
        if (sizeof out - used < frame_header + size) {
            channel_write(&p->channel, out, used);
            used = 0;
        }
        frame_begin(out + used, size);
        write_message(p, p->sent, out + used + frame_header);
        p->sent_ns[p->sent % window] = now_ns;
        p->sent++;
        outstanding++;
        used += frame_header + size;
    }
    if (used > 0) {
        channel_write(&p->channel, out, used);
    }
}

static bool take_frame(void *context, unsigned char *frame, size_t whole) {
    static unsigned char expected[size_most];
    player *p = context;
    if (frame[3] == frame_ping) {
        frame[3] = frame_pong;
        channel_write(&p->channel, frame, whole);
        return true;
    }
    write_message(p, p->answered, expected);
    if (frame[3] != frame_data || whole != frame_header + size || p->answered == p->sent ||
        memcmp(frame + frame_header, expected, size) != 0) {
        return false;
    }
    if (measuring) {
        histogram_add(&round_trips, now_ns - p->sent_ns[p->answered % window]);
    }
    p->answered++;
    answers++;
    outstanding--;
    return true;
}

static void on_ready(channel *c) {
    (void)c;
    ready++;
}

static void on_bytes(channel *c, const unsigned char *bytes, size_t count) {
    player *p = (player *)c;
    now_ns = clock_ns();
    if (!frames_take(&p->reader, frame_capacity(size), bytes, count, take_frame, p)) {
        errors++;
        fail("a wrong answer");
    }
}

static void served(channel *c, bool there) {
    if (!there) {
        lost++;
        channel_close(c);
        return;
    }
    fill_window((player *)c);
}

static void open_player(player *p) {
    p->sent_ns = calloc(window, sizeof *p->sent_ns);
    p->reader.part = malloc(frame_capacity(size));
    if (p->sent_ns == NULL || p->reader.part == NULL) {
        fail("no memory");
    }
    channel_open(&p->channel);
}

static void open_all(void) {
    uint64_t give_up = clock_ns() + give_up_ns;
    while (ready < connections && clock_ns() < give_up) {
        while (opened < connections && opened - ready < opening_most) {
            open_player(&players[opened++]);
        }
        (void)channels_serve(look_ms, -1, served);
    }
    if (ready < connections || lost > 0) {
        fail("the server does not let all in");
    }
}

static void serve_until(uint64_t end_ns) {
    while (clock_ns() < end_ns && told_to_end == 0 && lost == 0) {
        (void)channels_serve(look_ms, -1, served);
    }
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

/* Answers of the measured window, and its length. */
static uint64_t measure(double *took) {
    now_ns = clock_ns();
    going = true;
    for (unsigned i = 0; i < connections; i++) {
        fill_window(&players[i]);
    }
    serve_until(clock_ns() + (uint64_t)(warm_seconds * 1e9));
    say("measuring");
    measuring = true;
    uint64_t begin = clock_ns();
    uint64_t before = answers;
    serve_until(begin + (uint64_t)(seconds * 1e9));
    uint64_t measured = answers - before;
    *took = (double)(clock_ns() - begin) / 1e9;
    measuring = false;
    say("measured");
    return measured;
}

static void drain(void) {
    uint64_t give_up = clock_ns() + give_up_ns;
    going = false;
    while (outstanding > 0 && lost == 0 && clock_ns() < give_up) {
        (void)channels_serve(look_ms, -1, served);
    }
    errors += outstanding + lost;
}

static void end_early(int number) {
    told_to_end = number;
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--connections") == 0) {
            connections = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--window") == 0) {
            window = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--size") == 0) {
            size = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--warm") == 0) {
            warm_seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--patience") == 0) {
            give_up_ns = (uint64_t)(strtod(value, NULL) * 1e9);
        } else if (!channels_option(argv[i], value)) {
            usage("the options are --connect --over --connections --window --size --seconds --warm"
                  " --patience --server-key --suite --sources");
        }
    }
    if (argc % 2 == 0 || connections == 0 || window == 0 || window > window_most ||
        size < size_least || size > size_most || !(seconds > 0)) {
        usage("--connections N --window 1..1024 --size 8..65536 --seconds S are needed");
    }
}

int main(int argc, char **argv) {
    const channel_events events = {on_ready, on_bytes};
    give_up_ns = patience_ns();
    read_options(argc, argv);
    signal(SIGTERM, end_early);
    channels_prepare(&events);
    players = calloc(connections, sizeof *players);
    if (players == NULL) {
        fail("no memory");
    }
    double took;
    open_all();
    uint64_t measured = measure(&took);
    drain();
    for (unsigned i = 0; i < connections; i++) {
        channel_close(&players[i].channel);
        free(players[i].sent_ns);
        free(players[i].reader.part);
    }
    free(players);
    printf(
        "{\"over\": \"%s\", \"connections\": %u, \"window\": %u, \"size\": %zu, \"seconds\": %.6f,"
        " \"messages\": %" PRIu64 ", \"answers\": %" PRIu64 ", \"errors\": %" PRIu64
        ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
        channels.kind->name, connections, window, size, took, measured, answers, errors,
        (double)histogram_at(&round_trips, 0.5) / 1e3,
        (double)histogram_at(&round_trips, 0.99) / 1e3, (double)round_trips.max / 1e3);
    return errors > 0;
}
