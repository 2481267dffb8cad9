/*
 * The account: what became of the messages, summed up when somebody asks. Any thread.
 *
 * What is accepted is counted by its senders and what is delivered by its receivers, in their own
 * peers: no counter is shared on the way of a message, and the equation between the two says
 * something.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "lanserver/bus/hub_internal.h"

void tp__hub_get_account(tp__hub *hub, tp__hub_account *account) {
    *account = (tp__hub_account){0};
    tp_mutex_lock(&hub->directory);
    account->peers = hub->up_count;
    account->accepted = hub->left_accepted;
    account->delivered = hub->left_delivered;
    for (uint32_t i = 0; i < hub->up_count; i++) {
        tp__peer *peer = hub->up[i];
        account->accepted += atomic_load_explicit(&peer->accepted, memory_order_relaxed);
        account->delivered += tp__unconfirmed_head(&peer->unconfirmed);
        account->outstanding += tp__unconfirmed_count(&peer->unconfirmed);
    }
    tp_mutex_unlock(&hub->directory);
    account->services = atomic_load_explicit(&hub->services.count, memory_order_relaxed);
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        account->returned_by[i] = atomic_load_explicit(&hub->returned[i], memory_order_relaxed);
        account->returned += account->returned_by[i];
    }
    account->orphaned = atomic_load_explicit(&hub->orphaned, memory_order_relaxed);
    account->requests = atomic_load_explicit(&hub->requests, memory_order_relaxed);
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        account->refused_for[i] = atomic_load_explicit(&hub->refused[i], memory_order_relaxed);
        account->refused += account->refused_for[i];
    }
    account->late = atomic_load_explicit(&hub->guests.late, memory_order_relaxed);
}

/* Text in the making. What does not fit is cut. */
typedef struct report {
    char *text;
    size_t room;
    size_t size;
} report;

static void line(report *out, const char *name, uint64_t value) {
    size_t left = out->room - out->size;
    int written = snprintf(out->text + out->size, left, "%s=%" PRIu64 "\n", name, value);
    if (written > 0) {
        out->size += (size_t)written < left ? (size_t)written : left;
    }
}

/* The sum, and those of its parts that there are. */
static void lines_by_reason(report *out, const char *name, uint64_t sum, const uint64_t *parts) {
    line(out, name, sum);
    for (uint16_t i = 0; i < TP_BUS_REASON_END; i++) {
        if (parts[i] > 0) {
            char part[64];
            snprintf(part, sizeof part, "%s.%s", name, tp_bus_reason_name(i));
            line(out, part, parts[i]);
        }
    }
}

size_t tp__hub_report(tp__hub *hub, char *text, size_t room) {
    tp__hub_account account;
    tp__hub_get_account(hub, &account);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(hub->server, &stats);
    report out = {.text = text, .room = room, .size = 0};
    line(&out, "peers", account.peers);
    line(&out, "services", account.services);
    line(&out, "accepted", account.accepted);
    line(&out, "delivered", account.delivered);
    line(&out, "outstanding", account.outstanding);
    lines_by_reason(&out, "returned", account.returned, account.returned_by);
    line(&out, "returned.orphaned", account.orphaned);
    line(&out, "hub.requests", account.requests);
    lines_by_reason(&out, "hello.refused", account.refused, account.refused_for);
    line(&out, "hello.late", account.late);
    line(&out, "sessions", tp_server_session_count(hub->server));
    line(&out, "sessions.denied", stats.denied);
    line(&out, "sessions.full", stats.full);
    line(&out, "memory.held", stats.memory_held);
    line(&out, "memory.ended", stats.memory_ended);
    line(&out, "received.messages", stats.received_messages);
    line(&out, "received.bytes", stats.received_bytes);
    line(&out, "sent.messages", stats.sent_messages);
    line(&out, "sent.bytes", stats.sent_bytes);
    return out.size;
}
