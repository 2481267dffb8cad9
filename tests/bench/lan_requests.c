/*
 * bench-lan-requests: one service on the bus sends requests to another, each when the last one is
 * answered, and records how long each took: the latency between services of the LAN.
 *
 *     bench-lan-requests --connect 127.0.0.1:PORT --size B --seconds S [--warm S]
 *
 * Lines on stdout: `measuring` and `measured` around the measured window, then one JSON object. A
 * request counts in the window in which its answer comes.
 *
 * Threads: each of the two clients has one worker; the requesting client's uses everything below
 * `asker`. The main thread starts and stops them and keeps the time.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dummy/histogram.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/lanclient.h"

enum { size_most = 64 * 1024, give_up_ms = 60000 };

static tp_address address;
static size_t size;
static double seconds, warm_seconds = 0.3;

static tp_lanclient *asked, *asker;
static tp_peer_id to;
static uint64_t asked_ns;
static histogram round_trips;
static atomic_uint_fast64_t answers, errors;
static atomic_bool measuring, stopping;

/* The main thread waits for these; changed under the mutex. */
static tp_mutex mutex;
static tp_condition changed;
static bool begun, ended;

static void signal_main(bool *what) {
    tp_mutex_lock(&mutex);
    *what = true;
    tp_condition_wake_all(&changed);
    tp_mutex_unlock(&mutex);
}

/* Waits for *what (NULL: for nothing) for `ns` at most. */
static bool wait_for(const bool *what, uint64_t ns) {
    uint64_t end = tp_clock_ns() + ns;
    bool there = false;
    tp_mutex_lock(&mutex);
    for (;;) {
        there = what != NULL && *what;
        uint64_t now = tp_clock_ns();
        if (there || now >= end) {
            break;
        }
        tp_condition_wait(&changed, &mutex, (int)((end - now) / 1000000 + 1));
    }
    tp_mutex_unlock(&mutex);
    return there;
}

static void wrong(const char *what, tp_err error) {
    fprintf(stderr, "bench-lan-requests: %s: %s\n", what, tp_err_text(error));
    atomic_fetch_add(&errors, 1);
    signal_main(&ended);
}

/* ---- on the workers -------------------------------------------------------------------------- */

static void on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_packet *answer = tp_packet_copy_of(tp_packet_bytes(packet), tp_packet_size(packet));
    tp_err error = tp_lanclient_reply(client, from, answer, NULL);
    tp_packet_release(answer);
    if (error != TP_OK) {
        wrong("cannot answer", error);
    }
}

static void ask(void);

static void on_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    (void)client;
    (void)from;
    (void)context;
    if (error != TP_OK || tp_packet_size(packet) != size) {
        wrong("no answer, or a wrong one", error);
        return;
    }
    if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
        histogram_add(&round_trips, tp_clock_ns() - asked_ns);
    }
    atomic_fetch_add_explicit(&answers, 1, memory_order_relaxed);
    if (atomic_load_explicit(&stopping, memory_order_relaxed)) {
        signal_main(&ended);
    } else {
        ask();
    }
}

static void ask(void) {
    tp_packet *question = tp_packet_new(size);
    uint8_t *bytes = question != NULL ? tp_packet_put_space(question, size) : NULL;
    if (bytes == NULL) {
        wrong("no packet", TP_ERR_NO_MEMORY);
        return;
    }
    memset(bytes, 0x5A, size);
    asked_ns = tp_clock_ns();
    tp_err error = tp_lanclient_request(asker, to, question, give_up_ms, on_reply, NULL, NULL);
    tp_packet_release(question);
    if (error != TP_OK) {
        wrong("cannot ask", error);
    }
}

static void on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    (void)client;
    if (to == TP_NO_PEER && strcmp(peer->service, "asked") == 0) {
        to = peer->id;
        signal_main(&begun);
        ask();
    }
}

/* ---- on the main thread ---------------------------------------------------------------------- */

static tp_lanclient *start(const char *service, const tp_lanclient_handlers *handlers) {
    tp_lanclient_options options;
    tp_lanclient *client = NULL;
    tp_lanclient_defaults(&options);
    options.address = address;
    options.service = service;
    tp_err error = tp_lanclient_create(&options, handlers, &client);
    if (error == TP_OK) {
        error = tp_lanclient_start(client);
    }
    if (error != TP_OK) {
        fprintf(stderr, "bench-lan-requests: %s: %s\n", service, tp_err_text(error));
        exit(1);
    }
    return client;
}

static uint64_t of_seconds(double value) {
    return (uint64_t)(value * 1e9);
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

/* The answers of the measured window, and its length. */
static uint64_t measure(double *took) {
    (void)wait_for(&ended, of_seconds(warm_seconds));
    say("measuring");
    uint64_t begin = tp_clock_ns();
    uint64_t before = atomic_load(&answers);
    atomic_store(&measuring, true);
    (void)wait_for(&ended, of_seconds(seconds));
    atomic_store(&measuring, false);
    uint64_t count = atomic_load(&answers) - before;
    *took = (double)(tp_clock_ns() - begin) / 1e9;
    say("measured");
    return count;
}

/* After the wait no handler of the client runs any more, so its histogram may be read. */
static void end(tp_lanclient *client) {
    tp_lanclient_stop(client);
    tp_err error = tp_lanclient_wait(client, give_up_ms);
    if (error != TP_OK) {
        wrong("does not stop", error);
    }
    tp_lanclient_destroy(client);
}

static bool read_arguments(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0) {
            if (tp_address_parse(argv[i + 1], &address) != TP_OK) {
                return false;
            }
        } else if (strcmp(argv[i], "--size") == 0) {
            size = strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = strtod(argv[i + 1], NULL);
        } else if (strcmp(argv[i], "--warm") == 0) {
            warm_seconds = strtod(argv[i + 1], NULL);
        } else {
            return false;
        }
    }
    return argc % 2 == 1 && address.port != 0 && size > 0 && size <= size_most && seconds > 0;
}

int main(int argc, char **argv) {
    const tp_lanclient_handlers asked_handlers = {
        .size = sizeof asked_handlers, .on_request = on_request};
    const tp_lanclient_handlers asker_handlers = {
        .size = sizeof asker_handlers, .on_peer_up = on_peer_up};
    if (!read_arguments(argc, argv)) {
        fprintf(stderr, "usage: %s --connect ADDRESS:PORT --size 1..%d --seconds S [--warm S]\n",
            argv[0], size_most);
        return 2;
    }
    tp_mutex_init(&mutex);
    tp_condition_init(&changed);
    asked = start("asked", &asked_handlers);
    asker = start("asker", &asker_handlers);
    if (!wait_for(&begun, give_up_ms * UINT64_C(1000000))) {
        fprintf(stderr, "bench-lan-requests: the answering service does not connect\n");
        return 1;
    }
    double took;
    uint64_t count = measure(&took);
    atomic_store(&stopping, true);
    if (!wait_for(&ended, give_up_ms * UINT64_C(1000000))) {
        atomic_fetch_add(&errors, 1);
    }
    end(asker);
    end(asked);
    printf("{\"size\": %zu, \"seconds\": %.6f, \"messages\": %" PRIu64 ", \"answers\": %" PRIu64
           ", \"errors\": %" PRIu64 ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
        size, took, count, (uint64_t)atomic_load(&answers), (uint64_t)atomic_load(&errors),
        (double)histogram_at(&round_trips, 0.5) / 1e3,
        (double)histogram_at(&round_trips, 0.99) / 1e3, (double)round_trips.max / 1e3);
    return atomic_load(&errors) != 0;
}
