/*
 * bench-bus-load: the bus table's traffic (route_load.h) through lanserver, with lanclient: each
 * sender and each receiver is a client. A sender finds its receiver by the name of its instance.
 *
 * Lines on stdout: `measuring` and `measured` around the measured window, then one JSON object.
 *
 * Threads: each client has one worker, which alone uses its party and, for a sender, its
 * route_sender. The main thread starts and stops them and keeps the time.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/thread.h"
#include "route_load.h"
#include "twinport/lanclient.h"

enum { give_up_ms = 10000 };

typedef struct party {
    tp_lanclient *client;
    route_sender *sender; /* NULL: a receiver */
    char instance[16];
    char receiver[16]; /* of a sender: its receiver's instance */
    tp_peer_id to;     /* and that one's id */
} party;

static route_run run;
static route_sender *senders;
static party *parties;
static atomic_uint_fast64_t errors; /* errors that no sender counts */

/* The main thread waits for these; changed under the mutex. */
static tp_mutex mutex;
static tp_condition changed;
static unsigned ready;   /* senders that have found their receiver */
static unsigned drained; /* senders with nothing in flight after the end */
static bool failed;

static void count(unsigned *what) {
    tp_mutex_lock(&mutex);
    (*what)++;
    tp_condition_wake_all(&changed);
    tp_mutex_unlock(&mutex);
}

static void fail(const party *of, const char *what, tp_err error) {
    fprintf(stderr, "bench-bus-load: %s: %s: %s\n", of->instance, what, tp_err_text(error));
    atomic_fetch_add_explicit(&errors, 1, memory_order_relaxed);
    tp_mutex_lock(&mutex);
    failed = true;
    tp_condition_wake_all(&changed);
    tp_mutex_unlock(&mutex);
}

/* Waits until *what is `wanted` (NULL: never), an error, or the time. */
static bool wait_for(const unsigned *what, unsigned wanted, uint64_t until_ns) {
    tp_mutex_lock(&mutex);
    bool there = false;
    while (!failed) {
        there = what != NULL && *what == wanted;
        uint64_t now = tp_clock_ns();
        if (there || now >= until_ns) {
            break;
        }
        tp_condition_wait(&changed, &mutex, (int)((until_ns - now) / 1000000 + 1));
    }
    tp_mutex_unlock(&mutex);
    return there;
}

/* ---- on the clients' workers ----------------------------------------------------------------- */

static void send_packet(party *from, tp_peer_id to, tp_packet *packet) {
    tp_err error =
        packet != NULL ? tp_lanclient_send(from->client, to, packet, NULL) : TP_ERR_NO_MEMORY;
    if (error != TP_OK) {
        fail(from, "cannot send", error);
    }
    tp_packet_release(packet);
}

static void fill_window(party *of, uint64_t now_ns) {
    while (route_may_send(of->sender)) {
        tp_packet *packet = tp_packet_new(run.options.size);
        uint8_t *message = packet != NULL ? tp_packet_put_space(packet, run.options.size) : NULL;
        if (message != NULL) {
            route_next(of->sender, message, now_ns);
        }
        send_packet(of, of->to, packet);
        if (message == NULL) {
            return;
        }
    }
}

static void sender_on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    party *of = tp_lanclient_context(client);
    if (of->to == TP_NO_PEER && strcmp(peer->instance, of->receiver) == 0) {
        of->to = peer->id;
        count(&ready);
    }
}

/* An ack; or a message from itself, with which the main thread starts it. */
static void sender_on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party *of = tp_lanclient_context(client);
    uint64_t now_ns = tp_clock_ns();
    if (from->peer == of->to) {
        route_acked(of->sender, tp_packet_bytes(packet), tp_packet_size(packet), now_ns);
    }
    fill_window(of, now_ns);
    if (route_drained(of->sender)) {
        count(&drained);
    }
}

static void receiver_on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party *of = tp_lanclient_context(client);
    const uint8_t *message = tp_packet_bytes(packet);
    uint64_t number;
    if (tp_packet_size(packet) == run.options.size &&
        route_check(message, run.options.size, &number)) {
        send_packet(of, from->peer, tp_packet_copy_of(message, route_ack_size));
    } else {
        fail(of, "a damaged message", TP_ERR_PROTOCOL);
    }
}

static void on_returned(tp_lanclient *client, const tp_returned *returned) {
    fail(tp_lanclient_context(client), "a message came back", returned->reason);
}

static void on_down(tp_lanclient *client, tp_err why) {
    if (why != TP_OK) {
        fail(tp_lanclient_context(client), "off the bus", why);
    }
}

/* ---- on the main thread ---------------------------------------------------------------------- */

static bool start_party(party *of, unsigned pair, route_sender *sender) {
    const tp_lanclient_handlers handlers = {
        .size = sizeof handlers,
        .on_down = on_down,
        .on_returned = on_returned,
        .on_peer_up = sender != NULL ? sender_on_peer_up : NULL,
        .on_message = sender != NULL ? sender_on_message : receiver_on_message,
    };
    char address[96];
    tp_lanclient_options options;
    of->sender = sender;
    snprintf(of->instance, sizeof of->instance, "%s%u", sender != NULL ? "s" : "r", pair);
    snprintf(of->receiver, sizeof of->receiver, "r%u", pair);
    snprintf(address, sizeof address, "%s:%u", run.options.host, run.options.port);
    tp_lanclient_defaults(&options);
    options.service = sender != NULL ? "sender" : "receiver";
    options.instance = of->instance;
    options.context = of;
    tp_err error = tp_address_parse(address, &options.address);
    if (error == TP_OK) {
        error = tp_lanclient_create(&options, &handlers, &of->client);
    }
    if (error == TP_OK) {
        error = tp_lanclient_start(of->client);
    }
    if (error != TP_OK) {
        fail(of, "cannot start", error);
    }
    return error == TP_OK;
}

static bool start_all(void) {
    for (unsigned i = 0; i < run.options.pairs; i++) {
        senders[i].run = &run;
        if (!start_party(&parties[2 * i], i, NULL) ||
            !start_party(&parties[2 * i + 1], i, &senders[i])) {
            return false;
        }
    }
    uint64_t until_ns = tp_clock_ns() + give_up_ms * UINT64_C(1000000);
    if (!wait_for(&ready, run.options.pairs, until_ns)) {
        fprintf(stderr, "bench-bus-load: %u of %u senders found their receiver\n", ready,
            run.options.pairs);
        return false;
    }
    for (unsigned i = 0; i < run.options.pairs; i++) {
        party *of = &parties[2 * i + 1];
        send_packet(of, tp_lanclient_self(of->client), tp_packet_copy_of("go", 2));
    }
    return true;
}

static void rest(double seconds) {
    wait_for(NULL, 0, tp_clock_ns() + (uint64_t)(seconds * 1e9));
}

static void say(const char *line) {
    printf("%s\n", line);
    fflush(stdout);
}

/* Stops the clients in order, so that everything is acknowledged. A worker that has ended records
 * no more, so its figures may be read even if the sender has not drained. */
static void end_all(void) {
    for (unsigned i = 0; i < 2 * run.options.pairs; i++) {
        tp_lanclient_stop(parties[i].client);
    }
    for (unsigned i = 0; i < 2 * run.options.pairs; i++) {
        tp_err error = tp_lanclient_wait(parties[i].client, give_up_ms);
        if (error != TP_OK) {
            fail(&parties[i], "does not stop", error);
        }
    }
    for (unsigned i = 0; i < 2 * run.options.pairs; i++) {
        tp_lanclient_destroy(parties[i].client);
    }
}

static void measure(void) {
    rest(run.options.warm_seconds);
    say("measuring");
    atomic_store(&run.measuring, true);
    uint64_t begin = tp_clock_ns();
    uint64_t before = route_total(senders, run.options.pairs);
    rest(run.options.seconds);
    uint64_t acks = route_total(senders, run.options.pairs) - before;
    uint64_t end = tp_clock_ns();
    atomic_store(&run.measuring, false);
    say("measured");
    atomic_store(&run.stopping, true);
    if (!wait_for(&drained, run.options.pairs, tp_clock_ns() + give_up_ms * UINT64_C(1000000))) {
        fprintf(stderr, "bench-bus-load: %u of %u senders have all their acks\n", drained,
            run.options.pairs);
        atomic_fetch_add_explicit(&errors, 1, memory_order_relaxed);
    }
    end_all();
    uint64_t all = route_print(
        "bench-bus-load", &run, senders, acks, atomic_load(&errors), (double)(end - begin) / 1e9);
    if (all != 0) {
        exit(1);
    }
}

int main(int argc, char **argv) {
    route_read_options(&run.options, argc, argv);
    senders = calloc(run.options.pairs, sizeof *senders);
    parties = calloc((size_t)run.options.pairs * 2, sizeof *parties);
    if (senders == NULL || parties == NULL) {
        fprintf(stderr, "bench-bus-load: no memory\n");
        return 1;
    }
    tp_mutex_init(&mutex);
    tp_condition_init(&changed);
    if (!start_all()) {
        return 1;
    }
    measure();
    free(parties);
    free(senders);
    return 0;
}
