/*
 * The table of peers, and the one step by which a message reaches one of them.
 *
 * Opening, publishing, withdrawing and closing: on the worker that runs the session's handler,
 * under the directory. Delivering: any worker.
 */
#include <string.h>

#include "core/packet/packet_internal.h"
#include "lanserver/bus/hub_internal.h"
#include "os/random.h"

tp_err tp__peers_create(tp__hub *hub, uint32_t max_peers) {
    uint32_t room = 16;
    while (room < max_peers + max_peers / 4) {
        room *= 2;
    }
    hub->slots = tp__allocate_zeroed(room, sizeof *hub->slots);
    hub->up = tp__allocate_zeroed(room, sizeof *hub->up);
    if (!hub->slots || !hub->up) {
        return TP_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < room; i++) {
        atomic_init(&hub->slots[i], NULL);
    }
    hub->mask = room - 1;
    /* Ids begin anywhere, so that one remembered from an earlier life of the hub finds nobody. */
    tp_random_bytes(&hub->next_id, sizeof hub->next_id);
    hub->ids_left = UINT32_MAX;
    return TP_OK;
}

static void destroy_peer(tp__peer *peer) {
    tp__unconfirmed_clear(&peer->unconfirmed);
    tp_mutex_destroy(&peer->mutex);
    tp__free(peer);
}

void tp__peers_destroy(tp__hub *hub) {
    while (hub->spare) {
        tp__peer *next = hub->spare->next;
        destroy_peer(hub->spare);
        hub->spare = next;
    }
    tp__free(hub->slots);
    tp__free(hub->up);
}

/* The next id whose slot is free. At least one slot in five is, since ids outnumber sessions. */
static uint32_t new_id(tp__hub *hub) {
    while (hub->ids_left > 0) {
        uint32_t id = hub->next_id++;
        hub->ids_left--;
        tp__peer *there = atomic_load_explicit(&hub->slots[id & hub->mask], memory_order_relaxed);
        if (id != 0 && !there) {
            return id;
        }
    }
    return 0;
}

static tp__peer *spare_peer(tp__hub *hub) {
    tp__peer *peer = hub->spare;
    if (peer) {
        hub->spare = peer->next;
        return peer;
    }
    peer = tp__allocate_zeroed(1, sizeof *peer);
    if (peer) {
        tp_mutex_init(&peer->mutex);
        tp__unconfirmed_init(&peer->unconfirmed, hub->options.unconfirmed_limit);
    }
    return peer;
}

tp__peer *tp__peers_open(tp__hub *hub, tp_session_id session) {
    tp__peer *peer = hub->up_count <= hub->mask ? spare_peer(hub) : NULL;
    uint32_t id = peer ? new_id(hub) : 0;
    if (id == 0) {
        if (peer) {
            tp__peers_close(hub, peer);
        }
        return NULL;
    }
    tp_mutex_lock(&peer->mutex); /* somebody with a pointer from its last life may look at it */
    peer->session = session;
    tp_mutex_unlock(&peer->mutex);
    peer->public_id = id;
    peer->swept = 0;
    atomic_store_explicit(&peer->told, 0, memory_order_relaxed);
    atomic_store_explicit(&peer->taken, 0, memory_order_relaxed);
    atomic_store_explicit(&peer->accepted, 0, memory_order_relaxed);
    return peer;
}

void tp__peers_publish(tp__hub *hub, tp__peer *peer) {
    tp_mutex_lock(&peer->mutex);
    peer->id = peer->public_id;
    tp_mutex_unlock(&peer->mutex);
    atomic_store_explicit(&hub->slots[peer->public_id & hub->mask], peer, memory_order_release);
    peer->up_index = hub->up_count;
    hub->up[hub->up_count++] = peer;
}

void tp__peers_withdraw(tp__hub *hub, tp__peer *peer) {
    atomic_store_explicit(&hub->slots[peer->public_id & hub->mask], NULL, memory_order_relaxed);
    tp_mutex_lock(&peer->mutex);
    peer->id = 0;
    tp_mutex_unlock(&peer->mutex);
}

void tp__peers_close(tp__hub *hub, tp__peer *peer) {
    peer->next = hub->spare;
    hub->spare = peer;
}

/* Why the server has not taken a packet. */
static tp_bus_reason refusal(tp__hub *hub, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    bool there = tp_server_session_info(hub->server, session, &info) && !info.ending;
    return there ? TP_BUS_QUEUE_FULL : TP_BUS_NO_PEER;
}

/* Under the peer's mutex. */
static tp_bus_reason enter(tp__peer *peer, const tp__sent *entry, size_t size) {
    if (size > peer->max_payload) {
        return TP_BUS_TOO_LARGE;
    }
    if (!entry) {
        return TP_BUS_DELIVERED;
    }
    switch (tp__unconfirmed_push(&peer->unconfirmed, *entry)) {
    case TP__PUSHED:
        break;
    case TP__PUSH_FULL:
        return TP_BUS_UNCONFIRMED_FULL;
    case TP__PUSH_NO_MEMORY:
        return TP_BUS_NO_MEMORY;
    }
    return TP_BUS_DELIVERED;
}

/* Under the peer's mutex. */
static tp_bus_reason queue(tp__hub *hub, tp__peer *peer, const tp__sent *entry, tp_packet *packet) {
    if (TP_LIKELY(tp_server_send(hub->server, peer->session, packet))) {
        return TP_BUS_DELIVERED;
    }
    if (entry) {
        tp__unconfirmed_undo(&peer->unconfirmed);
    }
    return refusal(hub, peer->session);
}

/*
 * `taken` is told in the order of the queue, since both happen under the mutex: never backwards. A
 * count that takes is stored behind its message, so no other one tells it before.
 */
tp_bus_reason tp__peer_deliver(tp__hub *hub, uint32_t id, const tp__sent *entry,
    const tp_bus_header *header, tp_packet *packet, uint32_t takes) {
    tp__peer *peer = atomic_load_explicit(&hub->slots[id & hub->mask], memory_order_acquire);
    uint8_t *bytes = tp_packet_edit(packet);
    if (TP_UNLIKELY(!peer || !bytes)) {
        return TP_BUS_NO_PEER;
    }
    tp_mutex_lock(&peer->mutex);
    if (TP_UNLIKELY(peer->id != id)) {
        tp_mutex_unlock(&peer->mutex);
        return TP_BUS_NO_PEER;
    }
    tp_bus_reason reason = enter(peer, entry, tp_packet_size(packet));
    if (TP_LIKELY(reason == TP_BUS_DELIVERED)) {
        uint32_t taken = atomic_load_explicit(&peer->taken, memory_order_relaxed) + takes;
        tp_bus_header complete = *header;
        complete.flags |= TP_BUS_ACK_VALID;
        complete.destination = taken;
        tp_bus_write(bytes, &complete);
        reason = queue(hub, peer, entry, packet);
        if (TP_LIKELY(reason == TP_BUS_DELIVERED)) {
            atomic_store_explicit(&peer->told, taken, memory_order_relaxed);
            if (takes > 0) {
                atomic_store_explicit(&peer->taken, taken, memory_order_relaxed);
            }
        } else {
            packet->sealed = false; /* nobody but the caller has it: it may try the next one */
        }
    }
    tp_mutex_unlock(&peer->mutex);
    return reason;
}

tp_bus_reason tp__peer_deliver_shared(
    tp__hub *hub, tp__peer *peer, const tp__sent *entry, tp_packet *packet) {
    tp_mutex_lock(&peer->mutex);
    tp_bus_reason reason = TP_BUS_NO_SERVICE;
    if (peer->id != 0) {
        reason = enter(peer, entry, tp_packet_size(packet));
        if (reason == TP_BUS_DELIVERED) {
            reason = queue(hub, peer, entry, packet);
        }
    }
    tp_mutex_unlock(&peer->mutex);
    return reason;
}
