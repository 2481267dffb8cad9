/*
 * Telling clients what of theirs the hub has taken charge of.
 *
 * Most counts travel in messages that go to the client anyway. For the rest there is the sweep, a
 * task that runs while anybody may have something to be told: it sends an ACK to each peer whose
 * news is older than one round. Runs on any worker; one at a time.
 *
 * A round that could not be posted would leave its peers without word until somebody's next
 * message. So the first one is posted at start, or the hub does not start: from then on there is
 * room for all delayed tasks that the hub ever has waiting (a sweep, a last look or two, HELLO's
 * deadline, the drain), and posting fails only when the server stops, whose clients hear of that.
 */
#include "lanserver/bus/hub_internal.h"
#include "twinport/log.h"

/* News waits less than two rounds, and each round may begin 10 ms late: TP_BUS_ACK_MS at the
 * most. */
#define SWEEP_MS 15u

static void sweep(void *context);

/* A sweep, or a last look, a round from now. */
static void post(tp__hub *hub, void (*look)(void *context)) {
    tp_err error = tp_server_post(hub->server, SWEEP_MS, look, hub);
    if (error) {
        atomic_store_explicit(&hub->sweep_armed, false, memory_order_release);
        if (error != TP_ERR_STATE) {
            TP_LOG(TP_LOG_WARNING, "bus: confirmations may be late: %s", tp_err_text(error));
        }
    }
}

static void arm(tp__hub *hub) {
    if (!atomic_exchange_explicit(&hub->sweep_armed, true, memory_order_acq_rel)) {
        post(hub, sweep);
    }
}

tp_err tp__confirm_start(tp__hub *hub) {
    tp_err error = tp_server_post(hub->server, SWEEP_MS, sweep, hub);
    return error == TP_ERR_STATE ? TP_OK : error; /* it has been stopped already */
}

/* If it cannot be sent now, the next sweep tries again. */
static void send_ack(tp__hub *hub, uint32_t id) {
    tp_bus_header header = {.kind = TP_BUS_ACK};
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER);
    if (packet) {
        tp_packet_put_space(packet, TP_BUS_HEADER);
        tp__peer_deliver(hub, id, NULL, &header, packet, 0);
        tp_packet_release(packet);
    }
}

/* True: this peer has news that another round must look after. */
static bool look_after(tp__hub *hub, tp__peer *peer) {
    uint32_t taken = atomic_load_explicit(&peer->taken, memory_order_relaxed);
    uint32_t told = atomic_load_explicit(&peer->told, memory_order_relaxed);
    if (taken == told) {
        return false;
    }
    bool old = peer->swept - told - 1 < UINT32_MAX / 2; /* swept > told, modulo 2^32 */
    peer->swept = taken;
    if (old) {
        send_ack(hub, peer->public_id);
    }
    return true;
}

/*
 * A message that is taken while the sweep comes by must be seen by one of the two: by the sweep, in
 * `taken`, or by tp__confirm_later(), which finds that it must arm. A full fence on the way of
 * every message would see to that; instead the sweep, having found nothing and put `sweep_armed`
 * out, looks once more a round later, when every processor has long seen that, and what was taken
 * before it saw it is there to be seen. (Two sweeps at a time do no harm: they look under the
 * directory.)
 */
static bool look_after_all(tp__hub *hub) {
    bool more = false;
    tp_mutex_lock(&hub->directory);
    for (uint32_t i = 0; i < hub->up_count; i++) {
        more |= look_after(hub, hub->up[i]);
    }
    tp_mutex_unlock(&hub->directory);
    return more;
}

static void last_look(void *context) {
    tp__hub *hub = context;
    if (look_after_all(hub)) {
        arm(hub);
    }
}

static void sweep(void *context) {
    tp__hub *hub = context;
    bool more = look_after_all(hub);
    if (!more) {
        atomic_store_explicit(&hub->sweep_armed, false, memory_order_release);
    }
    post(hub, more ? sweep : last_look);
}

/* What comes back, or is answered by the hub, has been counted with the word of it. The store
 * changes nothing then; nor does it need the peer's mutex otherwise: what it tells of is in its
 * receiver's queue. */
void tp__confirm_later(tp__hub *hub, tp__peer *peer, uint32_t taken) {
    atomic_store_explicit(&peer->taken, taken, memory_order_relaxed);
    uint32_t news = taken - atomic_load_explicit(&peer->told, memory_order_relaxed);
    if (TP_UNLIKELY(news % TP_BUS_ACK_MESSAGES == 0 && news != 0)) {
        send_ack(hub, peer->public_id);
    }
    if (TP_UNLIKELY(!atomic_load_explicit(&hub->sweep_armed, memory_order_relaxed))) {
        arm(hub);
    }
}
