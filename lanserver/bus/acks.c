/*
 * Acknowledgements: telling clients how many of their messages the hub has processed.
 *
 * Most counts travel in messages that go to the client anyway. For the rest there is the sweep, a
 * task that runs while the hub may owe a peer an acknowledgement: it sends an ACK to each peer that
 * has been owed one for more than one round. It runs on any worker, one sweep at a time.
 *
 * If a round could not be posted, its peers would get no acknowledgement until another message
 * arrived. So the first sweep is posted at start, or the hub does not start. From then on the
 * server's task table has a free entry for every delayed task that the hub ever has waiting (one
 * sweep, one or two last sweeps, the HELLO deadline, the drain), and posting fails only when the
 * server stops, which its clients learn from their connections.
 */
#include <assert.h>

#include "core/base/invariant.h"
#include "lanserver/bus/hub_internal.h"
#include "twinport/log.h"

/* A count waits less than two rounds for its ACK, and each round may begin 10 ms late: at most
 * TP_BUS_ACK_MS. */
#define SWEEP_MS 15u

static void acks_sweep(void *context);

/* Posts a sweep, or a last sweep, one round from now. */
static void acks_post(tp__hub *hub, void (*task)(void *context)) {
    tp_err error = tp_server_post(hub->server, SWEEP_MS, task, hub);
    if (error) {
        atomic_store_explicit(&hub->sweep_armed, false, memory_order_release);
        if (error != TP_ERR_STATE) {
            TP_LOG(TP_LOG_WARNING, "bus: acknowledgements delayed: %s", tp_err_text(error));
        }
    }
}

static void acks_arm(tp__hub *hub) {
    if (!atomic_exchange_explicit(&hub->sweep_armed, true, memory_order_acq_rel)) {
        acks_post(hub, acks_sweep);
    }
}

tp_err tp__acks_start(tp__hub *hub) {
    assert(hub->server);
    tp_err error = tp_server_post(hub->server, SWEEP_MS, acks_sweep, hub);
    return error == TP_ERR_STATE ? TP_OK : error; /* stopped already */
}

/* If it cannot be sent now, the next sweep tries again. */
static void acks_send(tp__hub *hub, uint32_t id) {
    assert(id != 0);
    tp_bus_header header = {.kind = TP_BUS_ACK};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER);
    if (packet) {
        tp_packet_put_space(packet, TP_BUS_HEADER);
        tp__peer_deliver(hub, id, NULL, &header, packet, 0);
        tp_packet_release(packet);
    }
}

/* Sends an ACK if the hub has owed the peer one since the previous round. True: another round must
 * check this peer. */
static bool acks_sweep_peer(tp__hub *hub, tp__peer *peer) {
    TP_ASSERT_LOCKED(&hub->directory);
    uint32_t processed = atomic_load_explicit(&peer->processed, memory_order_relaxed);
    uint32_t acknowledged = atomic_load_explicit(&peer->acknowledged, memory_order_relaxed);
    if (processed == acknowledged) {
        return false;
    }
    /* The previous round's count is ahead of `acknowledged`, modulo 2^32. */
    bool old = peer->processed_at_sweep - acknowledged - 1 < UINT32_MAX / 2;
    peer->processed_at_sweep = processed;
    if (old) {
        acks_send(hub, peer->public_id);
    }
    return true;
}

/*
 * Checks all peers. True: another round is needed.
 *
 * A message that is processed during the last sweep must be noticed by one of two: by the sweep, in
 * `processed`, or by tp__acks_later(), which finds `sweep_armed` false and posts a sweep. Instead
 * of a full fence per message, a sweep that has found nothing clears `sweep_armed` and checks once
 * more one round (15 ms) later. Assumption, not proven by C11: a relaxed store is visible on all
 * processors within 15 ms. Then a message whose thread still read `sweep_armed` as true is seen by
 * this last sweep. (Two sweeps at a time do no harm: they hold the directory lock.)
 */
static bool acks_sweep_peers(tp__hub *hub) {
    bool more = false;
    tp_mutex_lock(&hub->directory);
    for (uint32_t i = 0; i < hub->up_count; i++) {
        more |= acks_sweep_peer(hub, hub->up[i]);
    }
    TP__VERIFY(tp__hub_check(hub));
    tp_mutex_unlock(&hub->directory);
    return more;
}

static void acks_last_sweep(void *context) {
    tp__hub *hub = context;
    if (acks_sweep_peers(hub)) {
        acks_arm(hub);
    }
}

static void acks_sweep(void *context) {
    tp__hub *hub = context;
    bool more = acks_sweep_peers(hub);
    if (!more) {
        atomic_store_explicit(&hub->sweep_armed, false, memory_order_release);
    }
    acks_post(hub, more ? acks_sweep : acks_last_sweep);
}

/* If the message came back, or was answered by the hub, that reply has stored the same count
 * already, and the store changes nothing. Otherwise it needs no mutex of the peer: the message it
 * counts is already in its receiver's queue. */
void tp__acks_later(tp__hub *hub, tp__peer *peer, uint32_t processed) {
    atomic_store_explicit(&peer->processed, processed, memory_order_relaxed);
    uint32_t unacknowledged =
        processed - atomic_load_explicit(&peer->acknowledged, memory_order_relaxed);
    if (TP_UNLIKELY(unacknowledged % TP_BUS_ACK_MESSAGES == 0 && unacknowledged != 0)) {
        acks_send(hub, peer->public_id);
    }
    if (TP_UNLIKELY(!atomic_load_explicit(&hub->sweep_armed, memory_order_relaxed))) {
        acks_arm(hub);
    }
}
