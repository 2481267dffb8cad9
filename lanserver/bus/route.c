/*
 * Routing of messages. Runs in the sender's on_recv, on any worker.
 *
 * A bounced message comes back once: the ERROR that returns it also counts it as processed.
 * Otherwise a sender whose connection ended before the next acknowledgement would return it a
 * second time by itself. An ALL may bounce from several receivers; then the last ERROR counts it,
 * after every copy has been queued or returned. If an earlier ERROR did, a sender that stops would
 * not wait for the others.
 */
#include <assert.h>
#include <string.h>

#include "lanserver/bus/hub_internal.h"

/* A message being routed. */
typedef struct routed_message {
    tp__hub *hub;
    tp__peer *from;
    const tp_bus_header *header; /* as received */
    tp_packet *packet;
    tp__sent entry;
    tp_bus_header forward;       /* as forwarded */
    tp_bus_reason bounce_reason; /* reason of a bounce still to be sent; DELIVERED: there is none */
    uint32_t missed_peer;        /* ... and the peer it did not reach */
} routed_message;

static tp_bus_reason route_deliver(routed_message *message, uint32_t id) {
    return tp__peer_deliver(
        message->hub, id, &message->entry, &message->forward, message->packet, 0);
}

/* Sends the outstanding bounce, if there is one. `also_processed` 1: it is the last one, and counts
 * the message as processed. */
static void route_bounce(routed_message *message, uint32_t also_processed) {
    if (TP_UNLIKELY(message->bounce_reason != TP_BUS_DELIVERED)) {
        tp__bounce(message->hub, &message->entry, message->missed_peer, message->bounce_reason,
            also_processed);
        message->bounce_reason = TP_BUS_DELIVERED;
    }
}

/* Records the outcome of the message for one receiver. A bounce is held back until the next one, or
 * the end of routing: only then it is known whether it is the last. */
static uint32_t route_conclude(routed_message *message, uint32_t peer, tp_bus_reason reason) {
    assert(reason < TP_BUS_REASON_END);
    assert(reason != TP_BUS_DELIVERED || peer != 0);
    if (TP_UNLIKELY(reason != TP_BUS_DELIVERED)) {
        route_bounce(message, 0);
        message->bounce_reason = reason;
        message->missed_peer = peer;
    }
    return 1;
}

static uint32_t route_to_peer(routed_message *message) {
    uint32_t id = message->header->destination;
    if (TP_UNLIKELY(id == 0)) {
        return route_conclude(message, 0, TP_BUS_MALFORMED);
    }
    return route_conclude(message, id, route_deliver(message, id));
}

/* To the peer that ranks first for the key; to the next one only if that peer has just left. */
static uint32_t route_to_keyed(routed_message *message, tp__service *service) {
    tp__rank rank;
    tp__rank below;
    uint32_t id = tp__service_choose(service, message->header->key, NULL, &rank);
    tp_bus_reason reason = id ? TP_BUS_NO_PEER : TP_BUS_NO_SERVICE;
    while (id != 0) {
        assert(rank.id == id);
        reason = route_deliver(message, id);
        if (reason != TP_BUS_NO_PEER) {
            return route_conclude(message, id, reason);
        }
        below = rank;
        id = tp__service_choose(service, message->header->key, &below, &rank);
    }
    return route_conclude(message, 0, reason);
}

/* How informative a reason is that one of several peers gives. A reason that passes weighs most,
 * since the message may be sent again; the departure of a peer weighs least. */
static unsigned reason_weight(tp_bus_reason reason) {
    switch (reason) {
    case TP_BUS_QUEUE_FULL:
        return 5;
    case TP_BUS_UNCONFIRMED_FULL:
        return 4;
    case TP_BUS_NO_MEMORY:
        return 3;
    case TP_BUS_TOO_LARGE:
        return 2;
    case TP_BUS_NO_PEER:
        return 1;
    default:
        return 0;
    }
}

/* To the next peer in turn. Peers that have left or are at their limits are skipped. If none
 * accepts the message, the reason returned does not depend on whose turn it is. */
static uint32_t route_to_next(routed_message *message, tp__service *service) {
    uint32_t count = tp__service_count(service);
    uint32_t turn = count > 1 ? tp__service_turn(service) : 0;
    uint32_t missed_peer = 0;
    tp_bus_reason why = TP_BUS_NO_SERVICE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = tp__member_id(tp__service_member(service, (turn + i) % count));
        tp_bus_reason reason = route_deliver(message, id);
        if (TP_LIKELY(reason == TP_BUS_DELIVERED)) {
            return route_conclude(message, id, TP_BUS_DELIVERED);
        }
        if (reason_weight(reason) > reason_weight(why)) {
            why = reason;
            missed_peer = id;
        }
    }
    return route_conclude(message, missed_peer, why);
}

static uint32_t route_to_any(routed_message *message) {
    tp__service *service = tp__services_find(&message->hub->services, message->header->destination);
    if (!service) {
        return route_conclude(message, 0, TP_BUS_NO_SERVICE);
    }
    return message->header->flags & TP_BUS_KEYED ? route_to_keyed(message, service)
                                                 : route_to_next(message, service);
}

/* Sends one copy of an ALL. A peer that has been withdrawn but not yet announced gets no copy and
 * is not counted. Every published peer counts, even if this copy overflows its queue. */
static uint32_t route_copy(routed_message *message, tp__peer *peer) {
    TP_ASSERT_LOCKED(&message->hub->directory);
    assert(peer);
    if (peer == message->from) {
        return 0;
    }
    tp_bus_reason reason =
        tp__peer_deliver_shared(message->hub, peer, &message->entry, message->packet);
    if (reason == TP_BUS_NO_SERVICE) {
        return 0;
    }
    return route_conclude(message, peer->public_id, reason);
}

/* Under the directory lock, so that each member gets exactly one copy. */
static uint32_t route_to_members(routed_message *message, const tp__service *service) {
    TP_ASSERT_LOCKED(&message->hub->directory);
    uint32_t copies = 0;
    uint32_t count = service ? tp__service_count(service) : 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = tp__member_id(tp__service_member(service, i));
        tp__peer *peer = atomic_load_explicit(
            &message->hub->slots[id & message->hub->mask], memory_order_relaxed);
        copies += route_copy(message, peer);
    }
    return copies;
}

static uint32_t route_to_all_peers(routed_message *message) {
    TP_ASSERT_LOCKED(&message->hub->directory);
    uint32_t copies = 0;
    for (uint32_t i = 0; i < message->hub->up_count; i++) {
        copies += route_copy(message, message->hub->up[i]);
    }
    return copies;
}

static uint32_t route_to_all(routed_message *message) {
    tp__hub *hub = message->hub;
    uint32_t destination = message->header->destination;
    message->forward.destination = 0;
    tp_bus_write(tp_packet_edit(message->packet), &message->forward);
    tp_mutex_lock(&hub->directory);
    uint32_t copies = destination == 0 ? route_to_all_peers(message)
                                       : route_to_members(message,
                                             tp__services_find(&hub->services, destination));
    tp_mutex_unlock(&hub->directory);
    return copies > 0 ? copies : route_conclude(message, 0, TP_BUS_NO_SERVICE);
}

/* A request to the hub itself. */
static uint32_t route_to_hub(routed_message *message) {
    static const char stats[] = "stats";
    assert(tp_packet_size(message->packet) >= TP_BUS_HEADER);
    const uint8_t *asked = tp_packet_bytes(message->packet) + TP_BUS_HEADER;
    size_t size = tp_packet_size(message->packet) - TP_BUS_HEADER;
    if (size != sizeof stats - 1 || memcmp(asked, stats, size) != 0) {
        return route_conclude(message, 0, TP_BUS_MALFORMED);
    }
    char text[TP__HUB_STATS_TEXT_SIZE];
    size = tp__hub_stats_text(message->hub, text, sizeof text);
    tp_packet *reply = tp_packet_new(TP_BUS_HEADER + size);
    tp_bus_reason reason = TP_BUS_NO_MEMORY;
    if (reply) {
        tp_packet_put_space(reply, TP_BUS_HEADER);
        tp_packet_put_bytes(reply, text, size);
        tp_bus_header header = {.kind = TP_BUS_REPLY, .correlation = message->header->correlation};
        reason = tp__peer_deliver(message->hub, message->entry.source, NULL, &header, reply, 1);
    }
    tp_packet_release(reply);
    if (reason != TP_BUS_DELIVERED) {
        return route_conclude(message, 0, reason);
    }
    tp__count_shared(&message->hub->requests, 1);
    return 0;
}

static uint32_t route_request(routed_message *message) {
    const tp_bus_header *header = message->header;
    if (header->flags & TP_BUS_TO_SERVICE) {
        return route_to_any(message);
    }
    return header->destination == TP_BUS_HUB ? route_to_hub(message) : route_to_peer(message);
}

static bool flags_valid(const tp_bus_header *header) {
    switch (header->kind) {
    case TP_BUS_ANY:
        return (header->flags & ~TP_BUS_KEYED) == 0;
    case TP_BUS_REQUEST:
        return (header->flags & ~(TP_BUS_TO_SERVICE | TP_BUS_KEYED)) == 0 &&
               header->flags != TP_BUS_KEYED;
    default:
        return header->flags == 0;
    }
}

/* An ERROR names, in its payload, the kind of message it answers. The receiver needs a valid kind
 * to find that message. */
static bool body_valid(const tp_bus_header *header, const tp_packet *packet) {
    if (header->kind != TP_BUS_ERROR) {
        return true;
    }
    if (tp_packet_size(packet) < TP_BUS_HEADER + TP_BUS_ERROR_FIXED) {
        return false;
    }
    uint8_t kind = tp_bus_read_error(tp_packet_bytes(packet) + TP_BUS_HEADER).kind;
    return tp_bus_is_message(kind) && kind != TP_BUS_ERROR;
}

/* While the hub stops, only messages that conclude an exchange still pass. */
static bool passes_while_stopping(uint8_t kind) {
    return kind == TP_BUS_REPLY || kind == TP_BUS_ERROR;
}

static uint32_t route_dispatch(routed_message *message) {
    const tp_bus_header *header = message->header;
    if (TP_UNLIKELY(!flags_valid(header) || !body_valid(header, message->packet))) {
        return route_conclude(message, 0, TP_BUS_MALFORMED);
    }
    if (TP_UNLIKELY(tp__lifecycle_stopping(&message->hub->lifecycle)) &&
        !passes_while_stopping(header->kind)) {
        return route_conclude(message, 0, TP_BUS_SHUTDOWN);
    }
    switch (header->kind) {
    case TP_BUS_ANY:
        return route_to_any(message);
    case TP_BUS_ALL:
        return route_to_all(message);
    case TP_BUS_REQUEST:
        return route_request(message);
    default: /* SEND, REPLY, ERROR */
        return route_to_peer(message);
    }
}

uint32_t tp__route(tp__hub *hub, tp__peer *from, const tp_bus_header *header, tp_packet *packet) {
    uint32_t self = from->public_id;
    assert(self != 0 && tp_bus_is_message(header->kind) && header->correlation != 0);
    routed_message message = {
        .hub = hub,
        .from = from,
        .header = header,
        .packet = packet,
        .entry = {.source = self,
            .correlation = header->correlation,
            .destination = header->destination,
            .kind = header->kind},
        .forward = {.kind = header->kind,
            .flags = header->flags,
            .key = header->key,
            .source = self,
            .correlation = header->correlation},
        .bounce_reason = TP_BUS_DELIVERED,
    };
    uint32_t count = route_dispatch(&message);
    route_bounce(&message, 1);
    assert(message.bounce_reason == TP_BUS_DELIVERED);
    return count;
}
