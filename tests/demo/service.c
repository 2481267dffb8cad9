/*
 * tp-demo-service: the program that each service of the demo runs.
 *
 *     tp-demo-service --connect ADDRESS:PORT --service NAME --instance NAME
 *                     --rate MESSAGES-A-SECOND [--ask SERVICE]
 *
 * It registers on the bus and obeys commands, one a line of its standard input:
 *
 *     go      send `rate` messages a second: to a peer, to any of a service, to all of it, and
 *             requests; with --ask only requests to that service
 *     quiet   stop sending, and report when no message of its own is under way any more
 *     hub     request the hub's statistics
 *     stop    leave the bus and end (so does the end of the input)
 *
 * Its output is lines of one word and a JSON object: up, down, gone, report, quiet, hub. The main
 * thread sends and reports; a second thread reads the commands; replies, arriving and returned
 * messages are handled on the client's worker. The numbers are atomics, which each of these threads
 * adds to.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dummy/histogram.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/lanclient.h"

#define TICK_MS   5u
#define REPORT_MS 250u
#define MAX_PEERS 64u
#define REASONS   64  /* more than the values of tp_err */
#define MESSAGE   32u /* bytes of each message; its pattern is checked */

enum { ORDER_WAIT, ORDER_GO, ORDER_QUIET, ORDER_STOP };

static struct {
    tp_lanclient *client;
    unsigned rate;
    const char *ask; /* NULL: all services, all kinds of messages */
    _Atomic int order;
    atomic_bool ask_hub;

    atomic_ullong sent;      /* messages that the client accepted */
    atomic_ullong not_sent;  /* calls that it refused: no message has left */
    atomic_ullong processed; /* messages and requests that arrived */
    atomic_ullong asked;     /* requests that the client accepted */
    atomic_ullong over;      /* ... whose result has been counted in one of the next four */
    atomic_ullong answered;
    atomic_ullong timed_out;
    atomic_ullong failed;            /* requests that ended with another error */
    atomic_ullong wrong;             /* payloads that are not what was sent */
    atomic_ullong returned[REASONS]; /* returned messages, by tp_err */

    tp_mutex mutex; /* for the histogram and standard output */
    histogram round_trips;
} demo;

/* ---- output ---------------------------------------------------------------------------------- */

static void print_line(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tp_mutex_lock(&demo.mutex);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    tp_mutex_unlock(&demo.mutex);
    va_end(arguments);
}

static void print_numbers(const char *word) {
    char returned[512] = "";
    size_t length = 0;
    for (int error = 0; error < REASONS; error++) {
        uint64_t count = atomic_load(&demo.returned[error]);
        if (count > 0) {
            length += (size_t)snprintf(returned + length, sizeof returned - length,
                "%s\"%s\": %" PRIu64, length ? ", " : "", tp_err_name((tp_err)error), count);
        }
    }
    tp_mutex_lock(&demo.mutex);
    uint64_t p50 = histogram_at(&demo.round_trips, 0.5);
    uint64_t p99 = histogram_at(&demo.round_trips, 0.99);
    uint64_t max = demo.round_trips.max;
    tp_mutex_unlock(&demo.mutex);
    tp_lanclient_stats stats = {.size = sizeof stats};
    tp_lanclient_get_stats(demo.client, &stats);
    print_line("%s {\"sent\": %llu, \"not_sent\": %llu, \"processed\": %llu, \"asked\": %llu, "
               "\"answered\": %llu, \"timed_out\": %llu, \"failed\": %llu, \"wrong\": %llu, "
               "\"returned\": {%s}, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, "
               "\"client_sent\": %" PRIu64 ", \"confirmed\": %" PRIu64 ", \"lost\": %" PRIu64
               ", \"received\": %" PRIu64 ", \"late\": %" PRIu64 ", \"came_back\": %" PRIu64
               ", \"gone\": %" PRIu64 "}",
        word, (unsigned long long)atomic_load(&demo.sent),
        (unsigned long long)atomic_load(&demo.not_sent),
        (unsigned long long)atomic_load(&demo.processed),
        (unsigned long long)atomic_load(&demo.asked),
        (unsigned long long)atomic_load(&demo.answered),
        (unsigned long long)atomic_load(&demo.timed_out),
        (unsigned long long)atomic_load(&demo.failed), (unsigned long long)atomic_load(&demo.wrong),
        returned, (double)p50 / 1e3, (double)p99 / 1e3, (double)max / 1e3, stats.sent,
        stats.confirmed, stats.lost, stats.received, stats.late, stats.returned, stats.peers_gone);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* A number, the time, and 16 bytes that are computed from the number. */
static tp_packet *new_message(uint64_t number) {
    tp_packet *packet = tp_packet_new(MESSAGE);
    if (packet) {
        tp_packet_put_u64(packet, number);
        tp_packet_put_u64(packet, tp_clock_ns());
        tp_packet_put_u64(packet, number * 3);
        tp_packet_put_u64(packet, ~number);
    }
    return packet;
}

static bool is_intact(tp_packet *packet, uint64_t *time_ns) {
    uint64_t number = tp_packet_get_u64(packet);
    *time_ns = tp_packet_get_u64(packet);
    return tp_packet_get_u64(packet) == number * 3 && tp_packet_get_u64(packet) == ~number &&
           tp_packet_left(packet) == 0 && tp_packet_error(packet) == TP_OK;
}

static void count_arrival(tp_packet *packet) {
    uint64_t time_ns;
    atomic_fetch_add(&demo.processed, 1);
    if (!is_intact(packet, &time_ns)) {
        atomic_fetch_add(&demo.wrong, 1);
    }
}

static void on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    (void)client, (void)from;
    count_arrival(packet);
}

/* Replies with the same payload. */
static void on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    count_arrival(packet);
    tp_packet *answer = tp_packet_copy_of(tp_packet_bytes(packet), tp_packet_size(packet));
    tp_err error = answer ? tp_lanclient_reply(client, from, answer, NULL) : TP_ERR_NO_MEMORY;
    atomic_fetch_add(error ? &demo.not_sent : &demo.sent, 1);
    tp_packet_release(answer);
}

static void on_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    (void)client, (void)from, (void)context;
    uint64_t asked_ns;
    if (error == TP_ERR_TIMED_OUT) {
        atomic_fetch_add(&demo.timed_out, 1);
    } else if (error) {
        atomic_fetch_add(&demo.failed, 1);
        atomic_fetch_add(&demo.returned[error], 1);
    } else if (!is_intact(packet, &asked_ns)) {
        atomic_fetch_add(&demo.wrong, 1);
    } else {
        tp_mutex_lock(&demo.mutex);
        histogram_add(&demo.round_trips, tp_clock_ns() - asked_ns);
        tp_mutex_unlock(&demo.mutex);
        atomic_fetch_add(&demo.answered, 1);
    }
    atomic_fetch_add(&demo.over, 1);
}

static void on_returned(tp_lanclient *client, const tp_returned *returned) {
    (void)client;
    atomic_fetch_add(&demo.returned[returned->reason], 1);
}

/* ---- the bus --------------------------------------------------------------------------------- */

static void on_up(tp_lanclient *client, tp_peer_id self) {
    (void)client;
    print_line("up {\"id\": %" PRIu32 "}", self);
}

static void on_down(tp_lanclient *client, tp_err why) {
    (void)client;
    print_line("down {\"why\": \"%s\"}", tp_err_text(why));
}

static void on_peer_down(tp_lanclient *client, const tp_peer *peer) {
    (void)client;
    print_line("gone {\"service\": \"%s\", \"instance\": \"%s\", \"id\": %" PRIu32 "}",
        peer->service, peer->instance, peer->id);
}

/* ---- sending --------------------------------------------------------------------------------- */

static const char *const services[] = {"game", "chat", "db"};

static uint32_t chance(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static tp_err send_random(uint64_t *state, uint64_t number, tp_packet *packet) {
    static tp_peer peers[MAX_PEERS];
    peers[0].size = sizeof peers[0];
    size_t count = tp_lanclient_peers(demo.client, NULL, peers, MAX_PEERS);
    count = count < MAX_PEERS ? count : MAX_PEERS;
    tp_peer_id peer = count > 0 ? peers[chance(state) % count].id : TP_NO_PEER;
    const char *service = services[chance(state) % 3];
    tp_err error;
    switch (chance(state) % 10) {
    case 0:
        return tp_lanclient_send_all(demo.client, "game", packet, NULL);
    case 1:
    case 2:
        return tp_lanclient_send_any(demo.client, service, TP_NO_KEY, packet, NULL);
    case 3:
    case 4:
        return tp_lanclient_send_any(
            demo.client, service, (int32_t)(number & 0xFFFF), packet, NULL);
    case 5:
    case 6:
        error = tp_lanclient_request_any(
            demo.client, service, TP_NO_KEY, packet, 0, on_reply, NULL, NULL);
        break;
    case 7:
        error = peer ? tp_lanclient_request(demo.client, peer, packet, 0, on_reply, NULL, NULL)
                     : TP_ERR_NO_ROUTE;
        break;
    default:
        return peer ? tp_lanclient_send(demo.client, peer, packet, NULL) : TP_ERR_NO_ROUTE;
    }
    atomic_fetch_add(&demo.asked, error == TP_OK);
    return error;
}

static tp_err send_request(tp_packet *packet) {
    tp_err error =
        tp_lanclient_request_any(demo.client, demo.ask, TP_NO_KEY, packet, 0, on_reply, NULL, NULL);
    atomic_fetch_add(&demo.asked, error == TP_OK);
    return error;
}

static void send_messages(unsigned messages) {
    static uint64_t state = 1, number;
    for (unsigned i = 0; i < messages; i++) {
        tp_packet *packet = new_message(++number);
        tp_err error = !packet    ? TP_ERR_NO_MEMORY
                       : demo.ask ? send_request(packet)
                                  : send_random(&state, number, packet);
        atomic_fetch_add(error ? &demo.not_sent : &demo.sent, 1);
        tp_packet_release(packet);
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

static void read_commands(void *unused) {
    char line[64];
    (void)unused;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "go") == 0) {
            atomic_store(&demo.order, ORDER_GO);
        } else if (strcmp(line, "quiet") == 0) {
            atomic_store(&demo.order, ORDER_QUIET);
        } else if (strcmp(line, "hub") == 0) {
            atomic_store(&demo.ask_hub, true);
        } else if (strcmp(line, "stop") == 0) {
            break;
        }
    }
    atomic_store(&demo.order, ORDER_STOP);
}

static void on_hub_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    (void)client, (void)from, (void)context;
    char text[4096] = "";
    size_t length = 0;
    if (error) {
        print_line("hub {\"error\": \"%s\"}", tp_err_text(error));
        return;
    }
    /* name=value lines become JSON members */
    const char *bytes = (const char *)tp_packet_bytes(packet);
    size_t size = tp_packet_size(packet);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(bytes + at, '\n', size - at);
        size_t line = end ? (size_t)(end - (bytes + at)) : size - at;
        const char *equals = memchr(bytes + at, '=', line);
        if (equals && length + line + 8 < sizeof text) {
            size_t name = (size_t)(equals - (bytes + at));
            length += (size_t)snprintf(text + length, sizeof text - length, "%s\"%.*s\": %.*s",
                length ? ", " : "", (int)name, bytes + at, (int)(line - name - 1), equals + 1);
        }
        at += line + 1;
    }
    print_line("hub {%s}", text);
}

static void ask_hub(void) {
    tp_packet *packet = tp_packet_copy_of("stats", 5);
    tp_err error =
        packet ? tp_lanclient_request(demo.client, TP_HUB, packet, 0, on_hub_reply, NULL, NULL)
               : TP_ERR_NO_MEMORY;
    if (error) {
        print_line("hub {\"error\": \"%s\"}", tp_err_text(error));
    }
    tp_packet_release(packet);
}

/* Whether no message of this service is under way: all are acknowledged, and the results of all
 * requests are counted. */
static bool is_idle(void) {
    tp_lanclient_stats stats = {.size = sizeof stats};
    tp_lanclient_get_stats(demo.client, &stats);
    return stats.unconfirmed == 0 && atomic_load(&demo.over) == atomic_load(&demo.asked);
}

/* The main thread: every TICK_MS, what time and order require. */
static void run(void) {
    tp_mutex mutex;
    tp_condition never;
    tp_mutex_init(&mutex);
    tp_condition_init(&never);
    uint64_t sent_ms = tp_clock_ms();
    uint64_t report_ms = sent_ms + REPORT_MS;
    bool quiet_reported = false;
    int order;
    while ((order = atomic_load(&demo.order)) != ORDER_STOP) {
        tp_mutex_lock(&mutex);
        tp_condition_wait(&never, &mutex, TICK_MS);
        tp_mutex_unlock(&mutex);
        uint64_t now = tp_clock_ms();
        if (order == ORDER_GO) {
            uint64_t due = (now - sent_ms) * demo.rate / 1000;
            send_messages(due < demo.rate ? (unsigned)due : demo.rate);
        }
        sent_ms = now;
        if (now >= report_ms) {
            report_ms = now + REPORT_MS;
            print_numbers("report");
        }
        if (atomic_exchange(&demo.ask_hub, false)) {
            ask_hub();
        }
        if (order == ORDER_QUIET && !quiet_reported && is_idle()) {
            quiet_reported = true;
            print_numbers("quiet");
        }
    }
}

static bool read_arguments(int count, char **arguments, tp_lanclient_options *options) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *value = arguments[i + 1];
        if (strcmp(arguments[i], "--connect") == 0) {
            if (tp_address_parse(value, &options->address)) {
                return false;
            }
        } else if (strcmp(arguments[i], "--service") == 0) {
            options->service = value;
        } else if (strcmp(arguments[i], "--instance") == 0) {
            options->instance = value;
        } else if (strcmp(arguments[i], "--ask") == 0) {
            demo.ask = value;
        } else if (strcmp(arguments[i], "--rate") == 0) {
            demo.rate = (unsigned)strtoul(value, NULL, 10);
        } else {
            return false;
        }
    }
    return count % 2 == 1 && options->service && options->address.port && demo.rate;
}

int main(int count, char **arguments) {
    tp_lanclient_options options;
    tp_lanclient_defaults(&options);
    options.backoff_max_ms = 500;
    /* No request may time out, however slow the machine is, and although the loss of a killed
     * service may be noticed only after the hub's idle time: Wine sometimes keeps the sockets of a
     * killed process open. */
    options.request_timeout_ms = 600000;
    if (!read_arguments(count, arguments, &options)) {
        fputs("usage: tp-demo-service --connect ADDRESS:PORT --service NAME --instance NAME --rate "
              "N [--ask SERVICE]\n",
            stderr);
        return 2;
    }
    tp_mutex_init(&demo.mutex);
    const tp_lanclient_handlers handlers = {.size = sizeof handlers,
        .on_up = on_up,
        .on_down = on_down,
        .on_peer_down = on_peer_down,
        .on_message = on_message,
        .on_request = on_request,
        .on_returned = on_returned};
    tp_err error = tp_lanclient_create(&options, &handlers, &demo.client);
    if (!error) {
        error = tp_lanclient_start(demo.client);
    }
    tp_thread commands;
    if (!error) {
        error = tp_thread_start(&commands, "commands", read_commands, NULL);
    }
    if (error) {
        fprintf(stderr, "tp-demo-service: %s\n", tp_err_text(error));
        return 1;
    }
    run();
    tp_lanclient_stop(demo.client);
    tp_lanclient_wait(demo.client, -1);
    tp_lanclient_destroy(demo.client);
    tp_thread_join(&commands);
    return 0;
}
