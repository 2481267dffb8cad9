/*
 * bench-broadcast: one message to every session, sent in two ways: one packet with
 * tp_server_broadcast(), and a packet and a tp_server_send() for each session.
 *
 *     bench-broadcast --port N --sessions N --size B --times N
 *
 * The first line is `listening on ADDRESS:PORT`. When N sessions have joined, it measures and
 * prints one JSON object: for each way and time, the nanoseconds until the calls returned, until
 * the system has the last session's packet, and the processor time until then. Then it waits to be
 * stopped.
 *
 * Both ways are called on the server's only worker, as an application's handlers do. The main
 * thread starts a round and sleeps until the round's last on_send.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"
#include "twinport/lanserver.h"

enum { warm_rounds = 2, wait_ms = 60000, size_most = 64 * 1024 };

typedef struct round_figures {
    uint64_t call_ns, sent_ns, cpu_ns;
} round_figures;

/* Written by the worker; read by the main thread after it has seen the end of the round (or the
 * last join) under the mutex. */
static tp_session_id *sessions;
static unsigned joined;
static unsigned sent; /* packets of this round that the system has */
static uint64_t begin_ns, begin_cpu_ns;
static round_figures figures;

static unsigned wanted; /* sessions */
static size_t size;
static tp_server *server;
static uint8_t message[size_most];

static tp_mutex mutex;
static tp_condition reached;
static bool all_there; /* under the mutex: the event that the main thread waits for has happened */

static void wake_main(void) {
    tp_mutex_lock(&mutex);
    all_there = true;
    tp_condition_wake_all(&reached);
    tp_mutex_unlock(&mutex);
}

static void wait_for_worker(const char *what) {
    uint64_t end_ms = tp_clock_ms() + wait_ms;
    tp_mutex_lock(&mutex);
    while (!all_there) {
        uint64_t now_ms = tp_clock_ms();
        if (now_ms >= end_ms) {
            fprintf(stderr, "bench-broadcast: waited in vain for %s\n", what);
            exit(1);
        }
        tp_condition_wait(&reached, &mutex, (int)(end_ms - now_ms));
    }
    all_there = false;
    tp_mutex_unlock(&mutex);
}

static void on_join(tp_server *of, tp_session_id session) {
    (void)of;
    if (joined < wanted) {
        sessions[joined++] = session;
        if (joined == wanted) {
            wake_main();
        }
    }
}

static void on_leave(tp_server *of, tp_session_id session, tp_end_reason reason) {
    (void)of;
    (void)session;
    if (reason != TP_END_PEER_RESET && reason != TP_END_SHUTDOWN) {
        fprintf(stderr, "bench-broadcast: a session ended: %s\n", tp_end_reason_text(reason));
        exit(1);
    }
}

static void on_send(tp_server *of, tp_session_id session, size_t packets, size_t bytes) {
    (void)of;
    (void)session;
    (void)bytes;
    sent += (unsigned)packets;
    if (sent == wanted) {
        figures.sent_ns = tp_clock_ns() - begin_ns;
        figures.cpu_ns = tp_process_cpu_ns() - begin_cpu_ns;
        wake_main();
    }
}

static bool broadcast(void) {
    tp_packet *packet = tp_packet_copy_of(message, size);
    size_t taken = packet != NULL ? tp_server_broadcast(server, packet, TP_NO_SESSION) : 0;
    tp_packet_release(packet);
    return taken == wanted;
}

static bool send_copies(void) {
    bool all = true;
    for (unsigned i = 0; i < wanted && all; i++) {
        tp_packet *packet = tp_packet_copy_of(message, size);
        all = packet != NULL && tp_server_send(server, sessions[i], packet);
        tp_packet_release(packet);
    }
    return all;
}

/* On the worker. `context` is the way's index in the table of ways. */
static bool (*const ways[])(void) = {broadcast, send_copies};
static const char *const way_names[] = {"broadcast", "copies"};
enum { way_count = 2 };

static void send_in_way(void *context) {
    sent = 0;
    begin_cpu_ns = tp_process_cpu_ns();
    begin_ns = tp_clock_ns();
    bool all = (*(bool (*const *)(void))context)();
    figures.call_ns = tp_clock_ns() - begin_ns;
    if (!all) {
        fprintf(stderr, "bench-broadcast: a session did not take its packet\n");
        exit(1);
    }
}

static void start(unsigned port) {
    tp_server_options options;
    const tp_handlers handlers = {
        .size = sizeof handlers, .on_join = on_join, .on_leave = on_leave, .on_send = on_send};
    char address[TP_ADDRESS_TEXT];
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    tp_lanserver_defaults(&options);
    options.name = "broadcast";
    options.workers = 1;
    options.max_sessions = wanted;
    tp_err error = tp_address_parse(address, &options.address);
    if (error == TP_OK) {
        error = tp_lanserver_create(&options, &handlers, &server);
    }
    if (error == TP_OK) {
        error = tp_server_start(server);
    }
    if (error != TP_OK) {
        fprintf(stderr, "bench-broadcast: %s\n", tp_err_text(error));
        exit(1);
    }
}

static void measure(unsigned times) {
    round_figures *all = calloc((size_t)times * way_count, sizeof *all);
    if (all == NULL) {
        exit(1);
    }
    for (unsigned round = 0; round < warm_rounds + times; round++) {
        for (unsigned way = 0; way < way_count; way++) {
            if (tp_server_post(server, 0, send_in_way, (void *)(uintptr_t)&ways[way]) != TP_OK) {
                exit(1);
            }
            wait_for_worker("the last packet of a round");
            if (round >= warm_rounds) {
                all[way * times + round - warm_rounds] = figures;
            }
        }
    }
    printf("{\"sent\": %u", (warm_rounds + times) * way_count);
    for (unsigned way = 0; way < way_count; way++) {
        printf(", \"%s\": [", way_names[way]);
        for (unsigned i = 0; i < times; i++) {
            const round_figures *one = &all[way * times + i];
            printf("%s{\"call_ns\": %" PRIu64 ", \"sent_ns\": %" PRIu64 ", \"cpu_ns\": %" PRIu64
                   "}",
                i != 0 ? ", " : "", one->call_ns, one->sent_ns, one->cpu_ns);
        }
        printf("]");
    }
    printf("}\n");
    fflush(stdout);
    free(all);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"--port", "--sessions", "--size", "--times"};
    unsigned long values[4] = {0};
    bool right = argc == 9;
    for (int i = 0; right && i < 4; i++) {
        right = strcmp(argv[1 + 2 * i], names[i]) == 0;
        values[i] = strtoul(argv[2 + 2 * i], NULL, 10);
    }
    if (!right || values[0] > 65535 || values[1] == 0 || values[1] > TP_MAX_SESSIONS ||
        values[2] == 0 || values[2] > size_most || values[3] == 0) {
        fprintf(stderr, "usage: %s --port N --sessions N --size B --times N\n", argv[0]);
        return 2;
    }
    wanted = (unsigned)values[1];
    size = values[2];
    sessions = calloc(wanted, sizeof *sessions);
    if (sessions == NULL || tp_process_catch_stop() != TP_OK) {
        return 1;
    }
    tp_process_raise_descriptor_limit();
    tp_mutex_init(&mutex);
    tp_condition_init(&reached);
    start((unsigned)values[0]);
    printf("listening on 127.0.0.1:%u\n", tp_server_address(server).port);
    fflush(stdout);
    wait_for_worker("the sessions");
    measure((unsigned)values[3]);
    tp_process_wait_stop(-1);
    tp_server_destroy(server);
    free(sessions);
    return 0;
}
