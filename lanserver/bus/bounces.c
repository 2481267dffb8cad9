/*
 * What cannot be delivered goes back to its sender. Any worker.
 *
 * A return is the hub's debt: if the sender does not take it (its queue is full, memory is out),
 * the sender is ended, for it would otherwise wait for word that never comes.
 */
#include "lanserver/bus/hub_internal.h"
#include "proto/frame.h"
#include "twinport/log.h"

static tp_packet *error_packet(const tp__sent *message, uint32_t peer) {
    tp_bus_error error = {.peer = peer, .destination = message->destination, .kind = message->kind};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + TP_BUS_ERROR_FIXED);
    if (packet) {
        uint8_t *bytes = tp_packet_put_space(packet, TP_BUS_HEADER + TP_BUS_ERROR_FIXED);
        tp_bus_write_error(bytes + TP_BUS_HEADER, &error);
    }
    return packet;
}

static void cut_debtor(tp__hub *hub, uint32_t id) {
    tp__peer *peer = atomic_load_explicit(&hub->slots[id & hub->mask], memory_order_acquire);
    if (!peer) {
        return;
    }
    tp_mutex_lock(&peer->mutex);
    tp_session_id session = peer->id == id ? peer->session : TP_NO_SESSION;
    tp_mutex_unlock(&peer->mutex);
    if (session != TP_NO_SESSION &&
        tp_server_disconnect_after_send(hub->server, session, TP_CLOSE_OVERLOAD)) {
        TP_LOG(TP_LOG_WARNING, "bus: peer %u does not take its returned messages: it is ended",
            (unsigned)id);
    }
}

void tp__return(
    tp__hub *hub, const tp__sent *message, uint32_t peer, tp_bus_reason reason, uint32_t takes) {
    tp_bus_header header = {
        .kind = TP_BUS_ERROR, .key = (uint16_t)reason, .correlation = message->correlation};
    tp_packet *packet = error_packet(message, peer);
    tp_bus_reason taken = packet
                              ? tp__peer_deliver(hub, message->source, NULL, &header, packet, takes)
                              : TP_BUS_NO_MEMORY;
    tp_packet_release(packet);
    atomic_fetch_add_explicit(&hub->returned[reason], 1, memory_order_relaxed);
    if (taken == TP_BUS_DELIVERED) {
        return;
    }
    atomic_fetch_add_explicit(&hub->orphaned, 1, memory_order_relaxed);
    if (taken != TP_BUS_NO_PEER) {
        cut_debtor(hub, message->source);
    }
}
