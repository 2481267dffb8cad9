/*
 * The hub's statistics: the outcome of all messages, summed up on request. Any thread.
 *
 * Accepted messages are counted by their senders and delivered messages by their receivers, each in
 * its own peer. So no counter is shared on the path of a message, and the equation between the two
 * sums is a real check.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "lanserver/bus/hub_internal.h"

void tp__hub_get_stats(tp__hub *hub, tp__hub_stats *stats) {
    *stats = (tp__hub_stats){0};
    tp_mutex_lock(&hub->directory);
    stats->peers = hub->up_count;
    stats->accepted = hub->left_accepted;
    stats->delivered = hub->left_delivered;
    for (uint32_t i = 0; i < hub->up_count; i++) {
        tp__peer *peer = hub->up[i];
        stats->accepted += tp__count_read(&peer->accepted);
        stats->delivered += tp__unconfirmed_acknowledged(&peer->unconfirmed);
        stats->outstanding += tp__unconfirmed_count(&peer->unconfirmed);
    }
    tp_mutex_unlock(&hub->directory);
    stats->services = atomic_load_explicit(&hub->services.count, memory_order_relaxed);
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        stats->returned_by[i] = tp__count_read(&hub->returned[i]);
        stats->returned += stats->returned_by[i];
    }
    stats->orphaned = tp__count_read(&hub->orphaned);
    stats->requests = tp__count_read(&hub->requests);
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        stats->refused_for[i] = tp__count_read(&hub->refused[i]);
        stats->refused += stats->refused_for[i];
    }
    stats->late = tp__count_read(&hub->connections.late);
}

/* Text being written. Lines that do not fit are truncated. */
typedef struct stats_text {
    char *text;
    size_t capacity;
    size_t size;
} stats_text;

static void stats_line(stats_text *out, const char *name, uint64_t value) {
    assert(out->size <= out->capacity);
    size_t left = out->capacity - out->size;
    int written = snprintf(out->text + out->size, left, "%s=%" PRIu64 "\n", name, value);
    if (written > 0) {
        out->size += (size_t)written < left ? (size_t)written : left;
    }
}

/* A line for the sum, and one for each of its parts that is not 0. */
static void stats_lines_by_reason(
    stats_text *out, const char *name, uint64_t sum, const uint64_t *parts) {
    stats_line(out, name, sum);
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        if (parts[i] > 0) {
            char part[64];
            snprintf(part, sizeof part, "%s.%s", name, tp_bus_reason_name((uint16_t)i));
            stats_line(out, part, parts[i]);
        }
    }
}

size_t tp__hub_stats_text(tp__hub *hub, char *text, size_t size) {
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    tp_server_stats server = {.size = sizeof server};
    tp_server_get_stats(hub->server, &server);
    stats_text out = {.text = text, .capacity = size, .size = 0};
    stats_line(&out, "peers", stats.peers);
    stats_line(&out, "services", stats.services);
    stats_line(&out, "accepted", stats.accepted);
    stats_line(&out, "delivered", stats.delivered);
    stats_line(&out, "outstanding", stats.outstanding);
    stats_lines_by_reason(&out, "returned", stats.returned, stats.returned_by);
    stats_line(&out, "returned.orphaned", stats.orphaned);
    stats_line(&out, "hub.requests", stats.requests);
    stats_lines_by_reason(&out, "hello.refused", stats.refused, stats.refused_for);
    stats_line(&out, "hello.late", stats.late);
    stats_line(&out, "sessions", tp_server_session_count(hub->server));
    stats_line(&out, "sessions.denied", server.denied);
    stats_line(&out, "sessions.full", server.full);
    stats_line(&out, "memory.held", server.memory_held);
    stats_line(&out, "memory.ended", server.memory_ended);
    stats_line(&out, "received.messages", server.received_messages);
    stats_line(&out, "received.bytes", server.received_bytes);
    stats_line(&out, "sent.messages", server.sent_messages);
    stats_line(&out, "sent.bytes", server.sent_bytes);
    return out.size;
}
