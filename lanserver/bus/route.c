/*
 * Where a message goes. Runs in the sender's on_recv, on any worker.
 *
 * A message comes back once: the word of it says also that it is taken charge of, or the sender
 * would return it a second time, by itself, if its connection ended before the next confirmation.
 * An ALL may come back from several; what says so is the last word of it, behind which every copy
 * has been queued or returned. Were it said before, a sender that stops would not wait for the
 * rest.
 */
#include <string.h>

#include "lanserver/bus/hub_internal.h"

/* A message on its way. */
typedef struct passage {
    tp__hub *hub;
    tp__peer *from;
    const tp_bus_header *header; /* as it came */
    tp_packet *packet;
    tp__sent entry;
    tp_bus_header forward; /* as it goes on */
    tp_bus_reason back;    /* why a copy is to go back that has not yet; DELIVERED: there is none */
    uint32_t missed;       /* ... and whom it did not reach */
} passage;

static tp_bus_reason deliver(passage *way, uint32_t id) {
    return tp__peer_deliver(way->hub, id, &way->entry, &way->forward, way->packet, 0);
}

/* `takes` 1: nothing of the message is left to deal with. */
static void give_back(passage *way, uint32_t takes) {
    if (TP_UNLIKELY(way->back != TP_BUS_DELIVERED)) {
        tp__return(way->hub, &way->entry, way->missed, way->back, takes);
        way->back = TP_BUS_DELIVERED;
    }
}

/* The outcome of a message to one receiver: it is delivered, or goes back, now or when it is known
 * that it is the last to. */
static uint32_t conclude(passage *way, uint32_t peer, tp_bus_reason reason) {
    if (TP_UNLIKELY(reason != TP_BUS_DELIVERED)) {
        give_back(way, 0);
        way->back = reason;
        way->missed = peer;
    }
    return 1;
}

static uint32_t to_peer(passage *way) {
    uint32_t id = way->header->destination;
    if (TP_UNLIKELY(id == 0)) {
        return conclude(way, 0, TP_BUS_MALFORMED);
    }
    return conclude(way, id, deliver(way, id));
}

/* The best for its key; the next best only if that one has just gone. */
static uint32_t to_keyed(passage *way, tp__service *service) {
    tp__rank rank;
    tp__rank below;
    uint32_t id = tp__service_choose(service, way->header->key, NULL, &rank);
    tp_bus_reason reason = id ? TP_BUS_NO_PEER : TP_BUS_NO_SERVICE;
    while (id != 0) {
        reason = deliver(way, id);
        if (reason != TP_BUS_NO_PEER) {
            return conclude(way, id, reason);
        }
        below = rank;
        id = tp__service_choose(service, way->header->key, &below, &rank);
    }
    return conclude(way, 0, reason);
}

/* How much a reason tells that a peer gives of several: the most one that passes, since the message
 * may be sent again then, and the least that a peer is gone. */
static unsigned weight_of(tp_bus_reason reason) {
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

/* The next in turn; one that has gone or is at its limits is passed over. Why nobody takes it
 * does not depend on whose turn it is. */
static uint32_t to_next(passage *way, tp__service *service) {
    uint32_t count = tp__service_count(service);
    uint32_t turn = count > 1 ? tp__service_turn(service) : 0;
    uint32_t missed = 0;
    tp_bus_reason why = TP_BUS_NO_SERVICE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = tp__member_id(tp__service_member(service, (turn + i) % count));
        tp_bus_reason reason = deliver(way, id);
        if (TP_LIKELY(reason == TP_BUS_DELIVERED)) {
            return conclude(way, id, TP_BUS_DELIVERED);
        }
        if (weight_of(reason) > weight_of(why)) {
            why = reason;
            missed = id;
        }
    }
    return conclude(way, missed, why);
}

static uint32_t to_any(passage *way) {
    tp__service *service = tp__services_find(&way->hub->services, way->header->destination);
    if (!service) {
        return conclude(way, 0, TP_BUS_NO_SERVICE);
    }
    return way->header->flags & TP_BUS_KEYED ? to_keyed(way, service) : to_next(way, service);
}

/* One copy of an ALL. Who is off the bus and only not announced as gone is none of its receivers;
 * whoever is on it is, also if this very copy is one too many and ends it. */
static uint32_t to_one_of_all(passage *way, tp__peer *peer) {
    if (peer == way->from) {
        return 0;
    }
    tp_bus_reason reason = tp__peer_deliver_shared(way->hub, peer, &way->entry, way->packet);
    if (reason == TP_BUS_NO_SERVICE) {
        return 0;
    }
    return conclude(way, peer->public_id, reason);
}

/* Under the directory, so that everybody gets it exactly once. */
static uint32_t to_members(passage *way, const tp__service *service) {
    uint32_t copies = 0;
    uint32_t count = service ? tp__service_count(service) : 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = tp__member_id(tp__service_member(service, i));
        tp__peer *peer =
            atomic_load_explicit(&way->hub->slots[id & way->hub->mask], memory_order_relaxed);
        copies += to_one_of_all(way, peer);
    }
    return copies;
}

static uint32_t to_everybody(passage *way) {
    uint32_t copies = 0;
    for (uint32_t i = 0; i < way->hub->up_count; i++) {
        copies += to_one_of_all(way, way->hub->up[i]);
    }
    return copies;
}

static uint32_t to_all(passage *way) {
    tp__hub *hub = way->hub;
    uint32_t destination = way->header->destination;
    way->forward.destination = 0;
    tp_bus_write(tp_packet_edit(way->packet), &way->forward);
    tp_mutex_lock(&hub->directory);
    uint32_t copies = destination == 0
                          ? to_everybody(way)
                          : to_members(way, tp__services_find(&hub->services, destination));
    tp_mutex_unlock(&hub->directory);
    return copies > 0 ? copies : conclude(way, 0, TP_BUS_NO_SERVICE);
}

/* A request to the hub itself. */
static uint32_t to_hub(passage *way) {
    static const char stats[] = "stats";
    const uint8_t *asked = tp_packet_bytes(way->packet) + TP_BUS_HEADER;
    size_t size = tp_packet_size(way->packet) - TP_BUS_HEADER;
    if (size != sizeof stats - 1 || memcmp(asked, stats, size) != 0) {
        return conclude(way, 0, TP_BUS_MALFORMED);
    }
    char text[TP__HUB_REPORT_ROOM];
    size = tp__hub_report(way->hub, text, sizeof text);
    tp_packet *reply = tp_packet_new(TP_BUS_HEADER + size);
    tp_bus_reason reason = TP_BUS_NO_MEMORY;
    if (reply) {
        tp_packet_put_space(reply, TP_BUS_HEADER);
        tp_packet_put_bytes(reply, text, size);
        tp_bus_header header = {.kind = TP_BUS_REPLY, .correlation = way->header->correlation};
        reason = tp__peer_deliver(way->hub, way->entry.source, NULL, &header, reply, 1);
    }
    tp_packet_release(reply);
    if (reason != TP_BUS_DELIVERED) {
        return conclude(way, 0, reason);
    }
    atomic_fetch_add_explicit(&way->hub->requests, 1, memory_order_relaxed);
    return 0;
}

static uint32_t to_requested(passage *way) {
    const tp_bus_header *header = way->header;
    if (header->flags & TP_BUS_TO_SERVICE) {
        return to_any(way);
    }
    return header->destination == TP_BUS_HUB ? to_hub(way) : to_peer(way);
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

/* Its receiver looks for what it answers by the kind in its payload. */
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

/* While the hub stops, only what ends something still passes. */
static bool passes_when_stopping(uint8_t kind) {
    return kind == TP_BUS_REPLY || kind == TP_BUS_ERROR;
}

static uint32_t pass_on(passage *way) {
    const tp_bus_header *header = way->header;
    if (TP_UNLIKELY(!flags_valid(header) || !body_valid(header, way->packet))) {
        return conclude(way, 0, TP_BUS_MALFORMED);
    }
    if (TP_UNLIKELY(atomic_load_explicit(&way->hub->stopping, memory_order_relaxed)) &&
        !passes_when_stopping(header->kind)) {
        return conclude(way, 0, TP_BUS_SHUTDOWN);
    }
    switch (header->kind) {
    case TP_BUS_ANY:
        return to_any(way);
    case TP_BUS_ALL:
        return to_all(way);
    case TP_BUS_REQUEST:
        return to_requested(way);
    default: /* SEND, REPLY, ERROR */
        return to_peer(way);
    }
}

uint32_t tp__route(tp__hub *hub, tp__peer *from, const tp_bus_header *header, tp_packet *packet) {
    uint32_t self = from->public_id;
    passage way = {
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
        .back = TP_BUS_DELIVERED,
    };
    uint32_t count = pass_on(&way);
    give_back(&way, 1);
    return count;
}
