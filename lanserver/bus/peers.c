/*
 * The table of peers, and the one step by which a message reaches a peer.
 *
 * Opening, publishing, withdrawing and closing a peer: on the worker that runs the session's
 * handler, under the directory lock. Delivering: on any worker.
 */
#include <assert.h>
#include <string.h>

#include "core/packet/packet_internal.h"
#include "lanserver/bus/hub_internal.h"
#include "os/random.h"

tp_err tp__peers_create(tp__hub *hub, uint32_t max_peers) {
    uint32_t capacity = 16;
    while (capacity < max_peers + max_peers / 4) {
        capacity *= 2;
    }
    hub->slots = tp__allocate_zeroed(capacity, sizeof *hub->slots);
    hub->up = tp__allocate_zeroed(capacity, sizeof *hub->up);
    if (!hub->slots || !hub->up) {
        return TP_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < capacity; i++) {
        atomic_init(&hub->slots[i], NULL);
    }
    hub->mask = capacity - 1;
    /* Ids begin at a random number: an id remembered from an earlier run of the hub matches no
     * peer. */
    tp_random_bytes(&hub->next_id, sizeof hub->next_id);
    hub->ids_left = UINT32_MAX;
    return TP_OK;
}

static void peer_destroy(tp__peer *peer) {
    assert(peer->id == 0);
    tp__unconfirmed_clear(&peer->unconfirmed);
    tp_mutex_destroy(&peer->mutex);
    tp__free(peer);
}

void tp__peers_destroy(tp__hub *hub) {
    assert(hub->up_count == 0); /* every session has left */
    while (hub->spare) {
        tp__peer *next = hub->spare->next;
        peer_destroy(hub->spare);
        hub->spare = next;
    }
    tp__free(hub->slots);
    tp__free(hub->up);
}

/* The next id whose slot is free, or 0. At least one slot in five is free, since there are more
 * slots than peers. */
static uint32_t peers_new_id(tp__hub *hub) {
    TP_ASSERT_LOCKED(&hub->directory);
    while (hub->ids_left > 0) {
        uint32_t id = hub->next_id++;
        hub->ids_left--;
        tp__peer *occupant =
            atomic_load_explicit(&hub->slots[id & hub->mask], memory_order_relaxed);
        if (id != 0 && !occupant) {
            return id;
        }
    }
    return 0;
}

static tp__peer *peers_take_spare(tp__hub *hub) {
    TP_ASSERT_LOCKED(&hub->directory);
    tp__peer *peer = hub->spare;
    if (peer) {
        assert(peer->id == 0 && !peer->unconfirmed.ring);
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
    TP_ASSERT_LOCKED(&hub->directory);
    tp__peer *peer = hub->up_count <= hub->mask ? peers_take_spare(hub) : NULL;
    uint32_t id = peer ? peers_new_id(hub) : 0;
    if (id == 0) {
        if (peer) {
            tp__peers_close(hub, peer);
        }
        return NULL;
    }
    /* A thread with a pointer from its previous use may be reading it. */
    tp_mutex_lock(&peer->mutex);
    peer->session = session;
    tp_mutex_unlock(&peer->mutex);
    peer->public_id = id;
    peer->processed_at_sweep = 0;
    atomic_store_explicit(&peer->acknowledged, 0, memory_order_relaxed);
    atomic_store_explicit(&peer->processed, 0, memory_order_relaxed);
    atomic_store_explicit(&peer->accepted, 0, memory_order_relaxed);
    return peer;
}

void tp__peers_publish(tp__hub *hub, tp__peer *peer) {
    TP_ASSERT_LOCKED(&hub->directory);
    assert(peer->public_id != 0 && peer->id == 0);
    assert(peer->service && hub->up_count <= hub->mask);
    tp_mutex_lock(&peer->mutex);
    peer->id = peer->public_id;
    tp_mutex_unlock(&peer->mutex);
    atomic_store_explicit(&hub->slots[peer->public_id & hub->mask], peer, memory_order_release);
    peer->up_index = hub->up_count;
    hub->up[hub->up_count++] = peer;
}

void tp__peers_withdraw(tp__hub *hub, tp__peer *peer) {
    TP_ASSERT_LOCKED(&hub->directory);
    assert(peer->id == peer->public_id);
    assert(hub->up_count > peer->up_index && hub->up[peer->up_index] == peer);
    atomic_store_explicit(&hub->slots[peer->public_id & hub->mask], NULL, memory_order_relaxed);
    tp_mutex_lock(&peer->mutex);
    peer->id = 0;
    tp_mutex_unlock(&peer->mutex);
}

void tp__peers_close(tp__hub *hub, tp__peer *peer) {
    TP_ASSERT_LOCKED(&hub->directory);
    assert(peer->id == 0 && !peer->unconfirmed.ring);
    peer->next = hub->spare;
    hub->spare = peer;
}

/* The reason why the server did not accept a packet for the session. */
static tp_bus_reason peer_refusal_reason(tp__hub *hub, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    bool present = tp_server_session_info(hub->server, session, &info) && !info.ending;
    return present ? TP_BUS_QUEUE_FULL : TP_BUS_NO_PEER;
}

/* Checks the size and appends the entry to the unacknowledged messages. */
static tp_bus_reason peer_push_unconfirmed(tp__peer *peer, const tp__sent *entry, size_t size) {
    TP_ASSERT_LOCKED(&peer->mutex);
    assert(peer->id != 0);
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

/* Queues the packet; if that fails, removes the entry again. */
static tp_bus_reason peer_queue(
    tp__hub *hub, tp__peer *peer, const tp__sent *entry, tp_packet *packet) {
    TP_ASSERT_LOCKED(&peer->mutex);
    if (TP_LIKELY(tp_server_send(hub->server, peer->session, packet))) {
        return TP_BUS_DELIVERED;
    }
    if (entry) {
        tp__unconfirmed_undo(&peer->unconfirmed);
    }
    return peer_refusal_reason(hub, peer->session);
}

/*
 * Counts are sent in the order of the queue, since both happen under the mutex: they never
 * decrease. A count with `also_processed` is stored after its message is queued, so no other
 * message carries it earlier.
 */
tp_bus_reason tp__peer_deliver(tp__hub *hub, uint32_t id, const tp__sent *entry,
    const tp_bus_header *header, tp_packet *packet, uint32_t also_processed) {
    assert(tp_packet_size(packet) >= TP_BUS_HEADER && also_processed <= 1);
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
    tp_bus_reason reason = peer_push_unconfirmed(peer, entry, tp_packet_size(packet));
    if (TP_LIKELY(reason == TP_BUS_DELIVERED)) {
        uint32_t processed =
            atomic_load_explicit(&peer->processed, memory_order_relaxed) + also_processed;
        tp_bus_header complete = *header;
        complete.flags |= TP_BUS_ACK_VALID;
        complete.destination = processed;
        tp_bus_write(bytes, &complete);
        reason = peer_queue(hub, peer, entry, packet);
        if (TP_LIKELY(reason == TP_BUS_DELIVERED)) {
            atomic_store_explicit(&peer->acknowledged, processed, memory_order_relaxed);
            if (also_processed > 0) {
                atomic_store_explicit(&peer->processed, processed, memory_order_relaxed);
            }
        } else {
            packet->sealed = false; /* only the caller has it, and may offer it to another peer */
        }
    }
    tp_mutex_unlock(&peer->mutex);
    return reason;
}

tp_bus_reason tp__peer_deliver_shared(
    tp__hub *hub, tp__peer *peer, const tp__sent *entry, tp_packet *packet) {
    assert(tp_packet_size(packet) >= TP_BUS_HEADER);
    tp_mutex_lock(&peer->mutex);
    tp_bus_reason reason = TP_BUS_NO_SERVICE;
    if (peer->id != 0) {
        reason = peer_push_unconfirmed(peer, entry, tp_packet_size(packet));
        if (reason == TP_BUS_DELIVERED) {
            reason = peer_queue(hub, peer, entry, packet);
        }
    }
    tp_mutex_unlock(&peer->mutex);
    return reason;
}
