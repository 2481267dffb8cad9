/*
 * Coming and going: HELLO and what follows from it, and the end of a peer.
 *
 * Both run in the session's handlers, on any worker. What everybody must see in one order (who is
 * here) happens under the directory.
 *
 * A newcomer is told of all others before it is published, so no message overtakes their PEER_UP.
 * It is published before the others are told of it, since one that hears of it on another worker
 * may answer at once; and they are told before its own first message can be routed, since that
 * comes through the same session's handler. At its end the order is: no message reaches it any
 * more; what it has not confirmed goes back; PEER_DOWN, unless the hub stops.
 */
#include <string.h>

#include "core/log/refusal.h"
#include "lanserver/bus/hub_internal.h"
#include "proto/frame.h"
#include "twinport/log.h"

#define LEAST_MAX_PAYLOAD 1024u

typedef struct hello {
    uint16_t version;
    uint32_t max_payload;
    size_t service_size;
    size_t instance_size;
    char service[TP_BUS_NAME_MAX + 2]; /* room to see that a name is too long */
    char instance[TP_BUS_NAME_MAX + 2];
} hello;

/* False: it is cut short. */
static bool read_hello(tp_packet *packet, hello *said) {
    tp_packet_seek(packet, TP_BUS_HEADER);
    said->version = tp_packet_get_u16(packet);
    tp_packet_get_u16(packet);
    said->max_payload = tp_packet_get_u32(packet);
    said->service_size = tp_packet_get_string(packet, said->service, sizeof said->service);
    said->instance_size = tp_packet_get_string(packet, said->instance, sizeof said->instance);
    return tp_packet_error(packet) == TP_OK;
}

static tp_bus_reason judge(const tp__hub *hub, const hello *said) {
    if (said->version != TP_BUS_VERSION) {
        return TP_BUS_BAD_VERSION;
    }
    if (!tp_bus_name_valid(said->service, said->service_size) ||
        !tp_bus_name_valid(said->instance, said->instance_size) ||
        tp_bus_service_hash(said->service, said->service_size) == 0) {
        return TP_BUS_BAD_NAME; /* one name in four thousand million has the hash 0: "everybody" */
    }
    if (said->max_payload < LEAST_MAX_PAYLOAD) {
        return TP_BUS_MALFORMED;
    }
    return atomic_load_explicit(&hub->stopping, memory_order_relaxed) ? TP_BUS_SHUTDOWN
                                                                      : TP_BUS_DELIVERED;
}

/* Each reason has a line of its own. A warning: a service that is refused is configured wrongly. */
static void say_refused(tp__hub *hub, tp_session_id session, tp_bus_reason reason) {
    static tp_log_place places[TP_BUS_REASON_END];
    tp_address from = tp__hub_address_of(hub, session);
    atomic_fetch_add_explicit(&hub->refused[reason], 1, memory_order_relaxed);
    tp__refusal_say(
        &places[reason], TP_LOG_WARNING, "bus", &from, tp_bus_reason_name((uint16_t)reason));
}

/* ERROR with the reason, also as text; then CLOSE. */
static void refuse(tp__hub *hub, tp_session_id session, tp_bus_reason reason) {
    const char *text = tp_bus_reason_name((uint16_t)reason);
    tp_bus_header header = {.kind = TP_BUS_ERROR, .key = (uint16_t)reason};
    tp_bus_error error = {.kind = TP_BUS_HELLO};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_ERROR_FIXED + strlen(text));
    if (packet) {
        uint8_t *bytes = tp_packet_put_space(packet, TP_BUS_HEADER + TP_BUS_ERROR_FIXED);
        tp_bus_write(bytes, &header);
        tp_bus_write_error(bytes + TP_BUS_HEADER, &error);
        tp_packet_put_bytes(packet, text, strlen(text));
        tp_server_send(hub->server, session, packet); /* if it fails, the CLOSE says enough */
        tp_packet_release(packet);
    }
    say_refused(hub, session, reason);
    tp_server_turn_away(hub->server, session, TP_CLOSE_NORMAL);
}

/* ---- announcements --------------------------------------------------------------------------- */

/* Confirmations must come well before the limit is reached, or a fast sender would run into it. */
static uint32_t ack_messages(const tp__hub *hub) {
    uint32_t quarter = hub->options.unconfirmed_limit / 4;
    uint32_t most = quarter < TP_BUS_ACK_MESSAGES ? quarter : TP_BUS_ACK_MESSAGES;
    return most > 0 ? most : 1;
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

/* Sends and releases; NULL is a packet that memory was out for. */
static bool send_and_release(tp__hub *hub, tp_session_id session, tp_packet *packet) {
    bool sent = packet && tp_server_send(hub->server, session, packet);
    tp_packet_release(packet);
    return sent;
}

/* To everybody but `except`; `packet` NULL: memory was out for it. Who cannot be told would know a
 * wrong world from here on: it is ended, comes back and is told all anew. (If it is ending already,
 * that does nothing.) Under the directory. */
static void announce(tp__hub *hub, const tp__peer *except, tp_packet *packet) {
    for (uint32_t i = 0; i < hub->up_count; i++) {
        tp__peer *peer = hub->up[i];
        bool told =
            peer == except || (packet && tp_server_send(hub->server, peer->session, packet));
        if (!told) {
            tp_server_disconnect_after_send(hub->server, peer->session, TP_CLOSE_OVERLOAD);
        }
    }
}

/* WELCOME, then all who are there. Under the directory. */
static bool welcome_all(tp__hub *hub, tp__peer *newcomer) {
    bool told = send_and_release(hub, newcomer->session, welcome_packet(hub, newcomer));
    for (uint32_t i = 0; told && i < hub->up_count; i++) {
        told = send_and_release(hub, newcomer->session, peer_up_packet(hub->up[i]));
    }
    return told;
}

/* ---- coming ---------------------------------------------------------------------------------- */

/* The newcomer made known, or NULL and why. Under the directory. */
static tp__peer *enter(tp__hub *hub, tp_session_id session, const hello *said, tp_bus_reason *why) {
    tp__service *service =
        tp__services_open(&hub->services, said->service, said->service_size, why);
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
    peer->max_payload = said->max_payload;
    peer->instance_size = (uint32_t)said->instance_size;
    memcpy(peer->instance, said->instance, said->instance_size + 1);
    uint32_t seed = tp_bus_service_hash(said->instance, said->instance_size);
    tp_packet *up = peer_up_packet(peer);
    /* A member that is not published yet is passed over. */
    if (!up || !welcome_all(hub, peer) ||
        !tp__service_add(service, tp__member_make(peer->public_id, seed))) {
        tp_packet_release(up);
        tp__peers_close(hub, peer);
        return NULL;
    }
    tp__peers_publish(hub, peer); /* from here on nothing fails */
    announce(hub, peer, up);
    tp_packet_release(up);
    return peer;
}

tp__peer *tp__greet(
    tp__hub *hub, tp_session_id session, const tp_bus_header *header, tp_packet *packet) {
    hello said;
    if (header->kind != TP_BUS_HELLO || !read_hello(packet, &said)) {
        TP__HUB_PROTOCOL_ERROR(hub, session, "it did not begin with a HELLO");
        return NULL;
    }
    tp_bus_reason reason = judge(hub, &said);
    tp__peer *peer = NULL;
    if (reason == TP_BUS_DELIVERED) {
        tp_mutex_lock(&hub->directory);
        peer = enter(hub, session, &said, &reason);
        tp_mutex_unlock(&hub->directory);
    }
    if (!peer) {
        refuse(hub, session, reason);
        return NULL;
    }
    TP_LOG(TP_LOG_INFO, "bus: %s/%s is here, peer %u", said.service, said.instance,
        (unsigned)peer->public_id);
    return peer;
}

/* ---- going ----------------------------------------------------------------------------------- */

/* Nobody enters messages once the peer is withdrawn, and the session's own confirmations are over:
 * the ring is ours alone. */
static void return_unconfirmed(tp__hub *hub, tp__peer *peer, uint32_t id) {
    uint64_t tail = tp__unconfirmed_tail(&peer->unconfirmed);
    for (uint64_t n = tp__unconfirmed_head(&peer->unconfirmed); n < tail; n++) {
        tp__sent lost = tp__unconfirmed_at(&peer->unconfirmed, n);
        tp__return(hub, &lost, id, TP_BUS_PEER_LOST, 0);
    }
}

/* Under the directory. */
static void announce_down(tp__hub *hub, uint32_t id, tp_end_reason reason) {
    tp_packet *down = peer_down_packet(id, reason);
    if (!down) {
        TP_LOG(TP_LOG_ERROR, "bus: no memory to say that peer %u is gone", (unsigned)id);
    }
    announce(hub, NULL, down);
    tp_packet_release(down);
}

/* Whom the hub itself ends because it stops is not announced: everybody else is ended with him, and
 * would do for a peer lost what is meant for a hub lost. Under the directory. */
static void forget(tp__hub *hub, tp__peer *peer, tp_end_reason reason) {
    tp__peer *last = hub->up[--hub->up_count];
    hub->up[peer->up_index] = last;
    last->up_index = peer->up_index;
    hub->left_accepted += atomic_load_explicit(&peer->accepted, memory_order_relaxed);
    hub->left_delivered += tp__unconfirmed_head(&peer->unconfirmed);
    tp__unconfirmed_clear(&peer->unconfirmed);

    if (reason != TP_END_SHUTDOWN) {
        announce_down(hub, peer->public_id, reason);
    }
    tp__peers_close(hub, peer);
}

void tp__farewell(tp__hub *hub, tp__peer *peer, tp_end_reason reason) {
    uint32_t id = peer->public_id;
    uint32_t lost = tp__unconfirmed_count(&peer->unconfirmed);
    TP_LOG(TP_LOG_INFO, "bus: %s/%s is gone, peer %u: %s; %u messages unconfirmed",
        peer->service->name, peer->instance, (unsigned)id, tp_end_reason_text(reason),
        (unsigned)lost);

    tp_mutex_lock(&hub->directory);
    tp__service_remove(peer->service, id);
    tp__peers_withdraw(hub, peer);
    tp_mutex_unlock(&hub->directory);

    return_unconfirmed(hub, peer, id);

    tp_mutex_lock(&hub->directory);
    forget(hub, peer, reason);
    tp_mutex_unlock(&hub->directory);
}
