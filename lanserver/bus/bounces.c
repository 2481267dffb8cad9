/*
 * Returns undeliverable messages to their senders. Any worker.
 *
 * A sender must get every bounce. If one cannot be queued (the sender's queue is full, or there is
 * no memory), the sender is disconnected: otherwise it would wait for an outcome that never comes.
 */
#include <assert.h>

#include "lanserver/bus/hub_internal.h"
#include "proto/frame.h"
#include "twinport/log.h"

static tp_packet *bounce_packet(const tp__sent *message, uint32_t peer) {
    tp_bus_error error = {.peer = peer, .destination = message->destination, .kind = message->kind};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_ERROR_FIXED);
    if (packet) {
        uint8_t *bytes = tp_packet_put_space(packet, TP_BUS_HEADER + TP_BUS_ERROR_FIXED);
        tp_bus_write_error(bytes + TP_BUS_HEADER, &error);
    }
    return packet;
}

static void bounce_disconnect_sender(tp__hub *hub, uint32_t id) {
    tp__peer *peer = atomic_load_explicit(&hub->slots[id & hub->mask], memory_order_acquire);
    if (!peer) {
        return;
    }
    tp_mutex_lock(&peer->mutex);
    tp_session_id session = peer->id == id ? peer->session : TP_NO_SESSION;
    tp_mutex_unlock(&peer->mutex);
    if (session != TP_NO_SESSION &&
        tp_server_disconnect_after_send(hub->server, session, TP_CLOSE_OVERLOAD)) {
        TP_LOG(TP_LOG_WARNING,
            "bus: peer %u disconnected: it does not accept its returned messages", (unsigned)id);
    }
}

void tp__bounce(tp__hub *hub, const tp__sent *message, uint32_t peer, tp_bus_reason reason,
    uint32_t also_processed) {
    assert(reason != TP_BUS_DELIVERED && reason < TP_BUS_REASON_END);
    assert(message->source != 0 && also_processed <= 1);
    tp_bus_header header = {
        .kind = TP_BUS_ERROR, .key = (uint16_t)reason, .correlation = message->correlation};
    tp_packet *packet = bounce_packet(message, peer);
    tp_bus_reason outcome =
        packet ? tp__peer_deliver(hub, message->source, NULL, &header, packet, also_processed)
               : TP_BUS_NO_MEMORY;
    tp_packet_release(packet);
    tp__count_shared(&hub->returned[reason], 1);
    if (outcome == TP_BUS_DELIVERED) {
        return;
    }
    tp__count_shared(&hub->orphaned, 1);
    if (outcome != TP_BUS_NO_PEER) {
        bounce_disconnect_sender(hub, message->source);
    }
}
