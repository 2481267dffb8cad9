/*
 * Registration: what a HELLO leads to, and the end of a peer.
 *
 * Both run in the session's handlers, on any worker. Changes that all peers must see in one order
 * (which peers are on the bus) happen under the directory lock.
 *
 * Order at registration:
 *
 *     1. The new peer gets WELCOME and a PEER_UP for every other peer. It is not published yet, so
 *        no message overtakes these.
 *     2. It is published, before the others get its PEER_UP: a peer that receives it on another
 *        worker may send to the new peer at once.
 *     3. The others get its PEER_UP, before its own first message can be routed: that message comes
 *        through the same session's handler.
 *
 * Order at the end: no message reaches the peer any more; its unacknowledged messages bounce; the
 * others get PEER_DOWN, unless the hub stops.
 */
#include <assert.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/log/refusal.h"
#include "lanserver/bus/hub_internal.h"
#include "proto/frame.h"
#include "twinport/log.h"

#define MIN_MAX_PAYLOAD 1024u

typedef struct hello {
    uint16_t version;
    uint32_t max_payload;
    size_t service_size;
    size_t instance_size;
    char service[TP_BUS_NAME_MAX + 2]; /* one byte more than a valid name, to detect a longer one */
    char instance[TP_BUS_NAME_MAX + 2];
} hello;

/* Reads a HELLO. False: it is truncated. */
static bool registration_read_hello(tp_packet *packet, hello *fields) {
    tp_packet_seek(packet, TP_BUS_HEADER);
    fields->version = tp_packet_get_u16(packet);
    tp_packet_get_u16(packet);
    fields->max_payload = tp_packet_get_u32(packet);
    fields->service_size = tp_packet_get_string(packet, fields->service, sizeof fields->service);
    fields->instance_size = tp_packet_get_string(packet, fields->instance, sizeof fields->instance);
    return tp_packet_error(packet) == TP_OK;
}

static tp_bus_reason registration_check(const tp__hub *hub, const hello *fields) {
    if (fields->version != TP_BUS_VERSION) {
        return TP_BUS_BAD_VERSION;
    }
    if (!tp_bus_name_valid(fields->service, fields->service_size) ||
        !tp_bus_name_valid(fields->instance, fields->instance_size) ||
        tp_bus_service_hash(fields->service, fields->service_size) == 0) {
        /* About one name in four thousand million has the hash 0, which stands for all services. */
        return TP_BUS_BAD_NAME;
    }
    if (fields->max_payload < MIN_MAX_PAYLOAD) {
        return TP_BUS_MALFORMED;
    }
    return tp__lifecycle_stopping(&hub->lifecycle) ? TP_BUS_SHUTDOWN : TP_BUS_DELIVERED;
}

/* Counts and logs a refusal; each reason has a call site of its own. A warning, because a refused
 * service is configured wrongly. */
static void registration_log_refusal(tp__hub *hub, tp_session_id session, tp_bus_reason reason) {
    static tp_log_site sites[TP_BUS_REASON_END];
    tp_address from = tp__hub_address_of(hub, session);
    tp__count_shared(&hub->refused[reason], 1);
    tp__log_refusal(
        &sites[reason], TP_LOG_WARNING, "bus", &from, tp_bus_reason_name((uint16_t)reason));
}

/* Refuses a HELLO: ERROR with the reason, also as text; then CLOSE. */
static void registration_refuse(tp__hub *hub, tp_session_id session, tp_bus_reason reason) {
    assert(reason != TP_BUS_DELIVERED && reason < TP_BUS_REASON_END);
    const char *text = tp_bus_reason_name((uint16_t)reason);
    tp_bus_header header = {.kind = TP_BUS_ERROR, .key = (uint16_t)reason};
    tp_bus_error error = {.kind = TP_BUS_HELLO};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_ERROR_FIXED + strlen(text));
    if (packet) {
        uint8_t *bytes = tp_packet_put_space(packet, TP_BUS_HEADER + TP_BUS_ERROR_FIXED);
        tp_bus_write(bytes, &header);
        tp_bus_write_error(bytes + TP_BUS_HEADER, &error);
        tp_packet_put_bytes(packet, text, strlen(text));
        tp_server_send(hub->server, session, packet); /* if this fails, the CLOSE must do */
        tp_packet_release(packet);
    }
    registration_log_refusal(hub, session, reason);
    tp_server_turn_away(hub->server, session, TP_CLOSE_NORMAL);
}

/* ---- announcements --------------------------------------------------------------------------- */

/* The number of messages after which a client acknowledges. It must be well below the limit, or a
 * fast sender would reach the limit. */
static uint32_t ack_messages(const tp__hub *hub) {
    uint32_t quarter = hub->options.unconfirmed_limit / 4;
    uint32_t count = quarter < TP_BUS_ACK_MESSAGES ? quarter : TP_BUS_ACK_MESSAGES;
    return count > 0 ? count : 1;
}

static tp_packet *welcome_packet(const tp__hub *hub, const tp__peer *peer) {
    const tp_server_options *server = &hub->options.server;
    tp_bus_header header = {.kind = TP_BUS_WELCOME};
    tp_bus_welcome welcome = {
        .version = TP_BUS_VERSION,
        .peer = peer->public_id,
        .hub = hub->instance,
        .max_payload = (uint32_t)server->max_frame,
        .unconfirmed = hub->options.unconfirmed_limit,
        .ack_messages = ack_messages(hub),
        .ack_ms = TP_BUS_ACK_MS,
        .heartbeat_ms = server->ping_interval_ms,
        .idle_ms = server->idle_timeout_ms,
        .peers = hub->up_count,
    };
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_WELCOME_SIZE);
    if (packet) {
        uint8_t *bytes = tp_packet_put_space(packet, TP_BUS_HEADER + TP_BUS_WELCOME_SIZE);
        tp_bus_write(bytes, &header);
        tp_bus_write_welcome(bytes + TP_BUS_HEADER, &welcome);
    }
    return packet;
}

static tp_packet *peer_up_packet(const tp__peer *peer) {
    tp_bus_header header = {.kind = TP_BUS_PEER_UP};
    const tp__service *service = peer->service;
    assert(peer->public_id != 0 && strlen(peer->instance) == peer->instance_size);
    tp_packet *packet = tp_packet_new(
        TP_BUS_HEADER + TP_BUS_PEER_UP_FIXED + 4 + service->name_size + peer->instance_size);
    if (packet) {
        tp_bus_write(tp_packet_put_space(packet, TP_BUS_HEADER), &header);
        tp_packet_put_u32(packet, peer->public_id);
        tp_packet_put_string(packet, service->name);
        tp_packet_put_string(packet, peer->instance);
    }
    return packet;
}

static tp_packet *peer_down_packet(uint32_t id, tp_end_reason reason) {
    tp_bus_header header = {.kind = TP_BUS_PEER_DOWN};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_PEER_DOWN_SIZE);
    if (packet) {
        tp_bus_write(tp_packet_put_space(packet, TP_BUS_HEADER), &header);
        tp_packet_put_u32(packet, id);
        tp_packet_put_u16(packet, (uint16_t)reason);
        tp_packet_put_u16(packet, 0);
    }
    return packet;
}

/* Sends and releases a packet. `packet` NULL: there was no memory for it; returns false. */
static bool send_and_release(tp__hub *hub, tp_session_id session, tp_packet *packet) {
    bool sent = packet && tp_server_send(hub->server, session, packet);
    tp_packet_release(packet);
    return sent;
}

/* Sends an announcement to all peers but `except`; `packet` NULL: there was no memory for it. A
 * peer that misses an announcement has a wrong peer list. It is disconnected; on reconnection it
 * gets the full list. (If it is being ended already, that has no effect.) */
static void announce_to_peers(tp__hub *hub, const tp__peer *except, tp_packet *packet) {
    TP_ASSERT_LOCKED(&hub->directory);
    for (uint32_t i = 0; i < hub->up_count; i++) {
        tp__peer *peer = hub->up[i];
        bool sent =
            peer == except || (packet && tp_server_send(hub->server, peer->session, packet));
        if (!sent) {
            tp_server_disconnect_after_send(hub->server, peer->session, TP_CLOSE_OVERLOAD);
        }
    }
}

/* Sends the new peer WELCOME and a PEER_UP for each other peer. */
static bool send_welcome(tp__hub *hub, tp__peer *peer) {
    TP_ASSERT_LOCKED(&hub->directory);
    assert(peer->id == 0); /* not published: nothing overtakes the WELCOME */
    bool sent = send_and_release(hub, peer->session, welcome_packet(hub, peer));
    for (uint32_t i = 0; sent && i < hub->up_count; i++) {
        sent = send_and_release(hub, peer->session, peer_up_packet(hub->up[i]));
    }
    return sent;
}

/* ---- registration ---------------------------------------------------------------------------- */

/* Adds a peer to the bus. NULL, with the reason in *why. */
static tp__peer *registration_add(
    tp__hub *hub, tp_session_id session, const hello *fields, tp_bus_reason *why) {
    TP_ASSERT_LOCKED(&hub->directory);
    assert(fields->instance_size <= TP_BUS_NAME_MAX && fields->max_payload >= MIN_MAX_PAYLOAD);
    tp__service *service =
        tp__services_open(&hub->services, fields->service, fields->service_size, why);
    if (!service) {
        return NULL;
    }
    *why = TP_BUS_HUB_FULL;
    tp__peer *peer = tp__peers_open(hub, session);
    if (!peer) {
        return NULL;
    }
    *why = TP_BUS_NO_MEMORY;
    peer->service = service;
    peer->max_payload = fields->max_payload;
    peer->instance_size = (uint32_t)fields->instance_size;
    memcpy(peer->instance, fields->instance, fields->instance_size + 1);
    uint32_t seed = tp_bus_service_hash(fields->instance, fields->instance_size);
    tp_packet *up = peer_up_packet(peer);
    /* A member that is not published yet is skipped by routing. */
    if (!up || !send_welcome(hub, peer) ||
        !tp__service_add(service, tp__member_make(peer->public_id, seed))) {
        tp_packet_release(up);
        tp__peers_close(hub, peer);
        return NULL;
    }
    tp__peers_publish(hub, peer); /* nothing fails from here on */
    announce_to_peers(hub, peer, up);
    tp_packet_release(up);
    return peer;
}

tp__peer *tp__hub_register(
    tp__hub *hub, tp_session_id session, const tp_bus_header *header, tp_packet *packet) {
    hello fields;
    if (header->kind != TP_BUS_HELLO || !registration_read_hello(packet, &fields)) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "first message is not a HELLO");
        return NULL;
    }
    tp_bus_reason reason = registration_check(hub, &fields);
    tp__peer *peer = NULL;
    if (reason == TP_BUS_DELIVERED) {
        tp_mutex_lock(&hub->directory);
        peer = registration_add(hub, session, &fields, &reason);
        TP__VERIFY(tp__hub_check(hub));
        tp_mutex_unlock(&hub->directory);
    }
    if (!peer) {
        registration_refuse(hub, session, reason);
        return NULL;
    }
    TP_LOG(TP_LOG_INFO, "bus: %s/%s joined, peer %u", fields.service, fields.instance,
        (unsigned)peer->public_id);
    return peer;
}

/* ---- end ------------------------------------------------------------------------------------- */

/* No message is added to a withdrawn peer, and its session receives no more acknowledgements: only
 * this thread uses the ring. */
static void registration_bounce(tp__hub *hub, tp__peer *peer, uint32_t id) {
    assert(id != 0 && peer->public_id == id);
    uint64_t tail = tp__unconfirmed_tail(&peer->unconfirmed);
    for (uint64_t n = tp__unconfirmed_head(&peer->unconfirmed); n < tail; n++) {
        tp__sent lost = tp__unconfirmed_at(&peer->unconfirmed, n);
        tp__bounce(hub, &lost, id, TP_BUS_PEER_LOST, 0);
    }
}

static void announce_peer_down(tp__hub *hub, uint32_t id, tp_end_reason reason) {
    TP_ASSERT_LOCKED(&hub->directory);
    tp_packet *down = peer_down_packet(id, reason);
    if (!down) {
        TP_LOG(TP_LOG_ERROR, "bus: PEER_DOWN of peer %u not sent: no memory", (unsigned)id);
    }
    announce_to_peers(hub, NULL, down);
    tp_packet_release(down);
}

/* Removes a peer from the list and announces its end. A session that the hub ends because it stops
 * is not announced: all others are ended with it, and their clients would take the loss of the hub
 * for the loss of a peer. */
static void registration_remove(tp__hub *hub, tp__peer *peer, tp_end_reason reason) {
    TP_ASSERT_LOCKED(&hub->directory);
    assert(peer->up_index < hub->up_count && hub->up[peer->up_index] == peer);
    assert(peer->id == 0); /* withdrawn: nothing was added since its messages bounced */
    tp__peer *last = hub->up[--hub->up_count];
    hub->up[peer->up_index] = last;
    last->up_index = peer->up_index;
    hub->left_accepted += tp__count_read(&peer->accepted);
    hub->left_delivered += tp__unconfirmed_acknowledged(&peer->unconfirmed);
    tp__unconfirmed_clear(&peer->unconfirmed);

    if (reason != TP_END_SHUTDOWN) {
        announce_peer_down(hub, peer->public_id, reason);
    }
    tp__peers_close(hub, peer);
}

void tp__hub_unregister(tp__hub *hub, tp__peer *peer, tp_end_reason reason) {
    uint32_t id = peer->public_id;
    uint32_t lost = tp__unconfirmed_count(&peer->unconfirmed);
    TP_LOG(TP_LOG_INFO, "bus: %s/%s left, peer %u: %s; %u messages unacknowledged",
        peer->service->name, peer->instance, (unsigned)id, tp_end_reason_text(reason),
        (unsigned)lost);

    tp_mutex_lock(&hub->directory);
    tp__service_remove(peer->service, id);
    tp__peers_withdraw(hub, peer);
    TP__VERIFY(tp__hub_check(hub));
    tp_mutex_unlock(&hub->directory);

    registration_bounce(hub, peer, id);

    tp_mutex_lock(&hub->directory);
    registration_remove(hub, peer, reason);
    TP__VERIFY(tp__hub_check(hub));
    tp_mutex_unlock(&hub->directory);
}
