/*
 * The hub's statistics: the outcome of all messages, summed up on request. Any thread.
 *
 * Accepted messages are counted by their senders and delivered messages by their receivers, each in
 * its own peer. So no counter is shared on the path of a message, and the equation between the two
 * sums is a real check.
 */
#include "core/base/stats_text.h"
#include "lanserver/bus/hub_internal.h"

/* The statistics of the peers, those that have left included. */
static void hub_stats_sum_peers(tp__hub *hub, tp__hub_stats *stats) {
    TP_ASSERT_LOCKED(&hub->directory);
    stats->peers = hub->up_count;
    stats->accepted = hub->left_accepted;
    stats->delivered = hub->left_delivered;
    for (uint32_t i = 0; i < hub->up_count; i++) {
        tp__peer *peer = hub->up[i];
        stats->accepted += tp__count_read(&peer->accepted);
        stats->delivered += tp__unconfirmed_acknowledged(&peer->unconfirmed);
        stats->outstanding += tp__unconfirmed_count(&peer->unconfirmed);
    }
}

/* Reads the parts; returns their sum. */
static uint64_t hub_stats_read_parts(const _Atomic uint64_t *counters, uint64_t *parts) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        parts[i] = tp__count_read(&counters[i]);
        sum += parts[i];
    }
    return sum;
}

void tp__hub_get_stats(tp__hub *hub, tp__hub_stats *stats) {
    *stats = (tp__hub_stats){0};
    tp_mutex_lock(&hub->directory);
    hub_stats_sum_peers(hub, stats);
    tp_mutex_unlock(&hub->directory);
    stats->services = atomic_load_explicit(&hub->services.count, memory_order_relaxed);
    stats->late = tp__count_read(&hub->connections.late);
#define READ(name, text)           stats->name = tp__count_read(&hub->name);
#define READ_PARTS(name, by, text) stats->name = hub_stats_read_parts(hub->name, stats->by);
    TP__HUB_STATS(TP__STATS_NONE, TP__STATS_NONE, READ, READ_PARTS)
#undef READ
#undef READ_PARTS
}

/* A line for the sum, and one for each of its parts that is not 0. */
static void hub_stats_add_parts(
    tp__stats_text *out, const char *name, uint64_t sum, const uint64_t *parts) {
    tp__stats_text_add(out, name, NULL, sum);
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        if (parts[i] > 0) {
            tp__stats_text_add(out, name, tp_bus_reason_name((uint16_t)i), parts[i]);
        }
    }
}

/* The fields of tp_server_stats that the text ends with, each with its name in the text. */
#define HUB_SERVER_STATS(X)                                                                        \
    X(denied, "sessions.denied")                                                                   \
    X(full, "sessions.full")                                                                       \
    X(memory_held, "memory.held")                                                                  \
    X(memory_ended, "memory.ended")                                                                \
    X(received_messages, "received.messages")                                                      \
    X(received_bytes, "received.bytes")                                                            \
    X(sent_messages, "sent.messages")                                                              \
    X(sent_bytes, "sent.bytes")

size_t tp__hub_stats_text(tp__hub *hub, char *text, size_t size) {
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    tp_server_stats server = {.size = sizeof server};
    tp_server_get_stats(hub->server, &server);
    tp__stats_text out = tp__stats_text_in(text, size);
#define LINE(name, text)           tp__stats_text_add(&out, text, NULL, stats.name);
#define LINE_PARTS(name, by, text) hub_stats_add_parts(&out, text, stats.name, stats.by);
    TP__HUB_STATS(LINE, LINE, LINE, LINE_PARTS)
#undef LINE
#undef LINE_PARTS
    tp__stats_text_add(&out, "sessions", NULL, tp_server_session_count(hub->server));
#define LINE(name, text) tp__stats_text_add(&out, text, NULL, server.name);
    HUB_SERVER_STATS(LINE)
#undef LINE
    return out.size;
}
