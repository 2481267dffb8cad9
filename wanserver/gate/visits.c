/*
 * Visits: a player at a peer of a service, from its JOIN until its LEAVE is answered. See
 * gate_internal.h for the states, and why no visit is let go of early.
 *
 * WHAT AN ANSWER SAYS of a request that was not answered with DONE:
 *   - it did not arrive: FULL, NO_MEMORY, NO_ROUTE, CANCELLED, TOO_LARGE, UNSUPPORTED, PROTOCOL;
 *   - it may have: TIMED_OUT, PEER_LOST. The latter is followed by the peer's end.
 * A JOIN that may have arrived makes the visit doubtful: then only a LEAVE ends it.
 *
 * Under the gate's mutex; the answers come on lanclient's workers and take it.
 */
#include <string.h>

#include "core/log/refusal.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* ---- lists ----------------------------------------------------------------------------------- */

static void enqueue(tp__gate_visit *visit, tp__visit_state state) {
    tp__gate_peer *peer = visit->peer;
    visit->state = state;
    visit->previous = peer->queue_last;
    visit->next = NULL;
    *(peer->queue_last ? &peer->queue_last->next : &peer->queue_first) = visit;
    peer->queue_last = visit;
}

static void dequeue(tp__gate_visit *visit) {
    tp__gate_peer *peer = visit->peer;
    *(visit->previous ? &visit->previous->next : &peer->queue_first) = visit->next;
    *(visit->next ? &visit->next->previous : &peer->queue_last) = visit->previous;
}

static bool is_due(const tp__gate_visit *visit) {
    return visit->state == TP__VISIT_DUE_JOIN || visit->state == TP__VISIT_DUE_LEAVE;
}

static bool is_in_flight(const tp__gate_visit *visit) {
    return visit->state == TP__VISIT_JOINING || visit->state == TP__VISIT_LEAVING;
}

static void add_to_peer(tp__gate_peer *peer, tp__gate_visit *visit) {
    visit->peer = peer;
    visit->earlier = NULL;
    visit->later = peer->visits;
    if (peer->visits) {
        peer->visits->earlier = visit;
    }
    peer->visits = visit;
}

static void remove_from_peer(tp__gate_visit *visit) {
    tp__gate_peer *peer = visit->peer;
    *(visit->earlier ? &visit->earlier->later : &peer->visits) = visit->later;
    if (visit->later) {
        visit->later->earlier = visit->earlier;
    }
    visit->peer = NULL;
}

/* ---- beginning and ending -------------------------------------------------------------------- */

/* Nobody points to it any more. */
static void release(tp__gate *gate, tp__gate_visit *visit) {
    visit->next = gate->free_visit;
    gate->free_visit = visit;
    gate->visits_used--;
    tp_condition_wake_all(&gate->changed);
}

/* The peer knows that he is not there, or never knew that he was. */
static void finish(tp__gate *gate, tp__gate_visit *visit) {
    remove_from_peer(visit);
    if (visit->said) {
        gate->visit_count--;
        gate->account.confirmed_leaves++;
    }
    release(gate, visit);
}

/* Takes the player off his visit. */
static void part(tp__gate_visit *visit) {
    tp__gate_player *player = visit->player;
    atomic_store_explicit(&player->route, TP_NO_PEER, memory_order_relaxed);
    atomic_store_explicit(&player->owner, TP_NO_PEER, memory_order_relaxed);
    player->visit = NULL;
    visit->player = NULL;
    visit->peer->players--;
}

/* Something is left to say to it, or its answer is awaited. */
static bool is_busy(const tp__gate_peer *peer) {
    return peer->queue_first || peer->in_flight > 0;
}

/* Says what is due to the peer, and has the tick look after it until all of it is answered: an
 * answer may find no player, and so perhaps no server, any more (tp__gate_arm). */
static void attend(tp__gate *gate, tp__gate_peer *peer) {
    tp__gate_pump(gate, peer);
    if (is_busy(peer)) {
        tp__gate_arm(gate);
    }
}

bool tp__gate_begin_visit(tp__gate *gate, tp__gate_player *player, tp__gate_peer *peer) {
    tp__gate_visit *visit = gate->free_visit;
    if (!visit) {
        return false;
    }
    gate->free_visit = visit->next;
    gate->visits_used++;
    *visit = (tp__gate_visit){.gate = gate,
        .player = player,
        .session = tp__gate_session_of(player),
        .number = ++gate->last_visit};
    add_to_peer(peer, visit);
    peer->players++;
    player->visit = visit;
    tp__gate_set_state(player, TP__GATE_AT_PEER);
    enqueue(visit, TP__VISIT_DUE_JOIN);
    attend(gate, peer);
    return true;
}

void tp__gate_end_visit(tp__gate *gate, tp__gate_player *player, uint16_t why, uint16_t end) {
    tp__gate_visit *visit = player->visit;
    tp__gate_peer *peer = visit->peer;
    part(visit);
    visit->why = why;
    visit->end = end;
    if (visit->state == TP__VISIT_JOINED) {
        enqueue(visit, TP__VISIT_DUE_LEAVE);
    } else if (visit->state == TP__VISIT_DUE_JOIN) {
        dequeue(visit);
        if (visit->doubtful) {
            enqueue(visit, TP__VISIT_DUE_LEAVE);
        } else {
            finish(gate, visit);
        }
    } /* JOINING: the answer decides */
    attend(gate, peer);
}

tp__gate_player *tp__gate_lose_visit(tp__gate *gate, tp__gate_visit *visit) {
    tp__gate_player *player = visit->player;
    if (player) {
        bool known = visit->said && !visit->peer->deaf;
        player->flags |= known ? TP_GATE_RETURN : 0;
        part(visit);
    }
    if (is_due(visit)) {
        dequeue(visit);
    }
    if (visit->said) {
        gate->visit_count--;
        gate->account.lost_visits++;
    }
    bool awaited = is_in_flight(visit);
    visit->peer->in_flight -= awaited;
    remove_from_peer(visit);
    if (!awaited) {
        release(gate, visit);
    }
    return player;
}

/* ---- saying ---------------------------------------------------------------------------------- */

static void on_answer(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context);

static void give_up_join(tp__gate *gate, tp__gate_visit *visit);

static tp_packet *join_packet(tp__gate *gate, const tp__gate_visit *visit) {
    const tp__gate_player *player = visit->player;
    tp_gate_join join = {.flags = player->flags,
        .port = player->address.port,
        .session = visit->session,
        .visit = visit->number,
        .blob = player->blob,
        .blob_size = player->blob_size};
    memcpy(join.ip, player->address.ip, sizeof join.ip);
    tp_identity who = {.size = sizeof who};
    if (gate->options.identity && gate->options.identity(gate->server, visit->session, &who)) {
        join.flags |= TP_GATE_IDENTIFIED;
        join.account = who.account;
        join.identity_flags = who.flags;
        memcpy(join.user_data, who.user_data, sizeof join.user_data);
    }
    tp_packet *packet = tp_packet_new(TP_GATE_JOIN_SIZE + (size_t)join.blob_size);
    if (packet) {
        uint8_t *bytes = tp_packet_put_space(packet, TP_GATE_JOIN_SIZE + (size_t)join.blob_size);
        tp_gate_write_join(bytes, &join);
    }
    return packet;
}

static tp_packet *leave_packet(const tp__gate_visit *visit) {
    const tp_gate_left left = {
        .session = visit->session, .visit = visit->number, .why = visit->why, .end = visit->end};
    tp_packet *packet = tp_packet_new(TP_GATE_LEAVE_SIZE);
    if (packet) {
        tp_gate_write_leave(tp_packet_put_space(packet, TP_GATE_LEAVE_SIZE), &left);
    }
    return packet;
}

static void account_join(tp__gate *gate, tp__gate_visit *visit) {
    if (visit->said) {
        return;
    }
    visit->said = true;
    gate->visit_count++;
    gate->account.joined++;
    gate->account.returns += (visit->player->flags & TP_GATE_RETURN) != 0;
}

/* Releases `packet`. */
static tp_err ask(tp__gate *gate, tp__gate_visit *visit, tp_packet *packet) {
    tp_err error = packet ? tp_lanclient_request(
                                gate->client, visit->peer->id, packet, 0, on_answer, visit, NULL)
                          : TP_ERR_NO_MEMORY;
    tp_packet_release(packet);
    return error;
}

static tp_err say_join(tp__gate *gate, tp__gate_visit *visit) {
    tp__gate_player *player = visit->player;
    atomic_store_explicit(&player->owner, visit->peer->id, memory_order_release);
    tp_err error = ask(gate, visit, join_packet(gate, visit));
    if (!error) {
        atomic_store_explicit(&player->route, visit->peer->id, memory_order_release);
        account_join(gate, visit);
    } else if (!visit->doubtful) {
        atomic_store_explicit(&player->owner, TP_NO_PEER, memory_order_relaxed);
    }
    return error;
}

/* The answer cannot overtake the state: it needs the mutex. */
void tp__gate_pump(tp__gate *gate, tp__gate_peer *peer) {
    while (peer->queue_first && peer->in_flight < TP__GATE_WINDOW &&
           (peer->again_ms == 0 || tp_clock_ms() >= peer->again_ms)) {
        tp__gate_visit *visit = peer->queue_first;
        bool joins = visit->state == TP__VISIT_DUE_JOIN;
        tp_err error = joins ? say_join(gate, visit) : ask(gate, visit, leave_packet(visit));
        if (error == TP_ERR_TOO_LARGE && joins) { /* for the hub: nor would it be taken later */
            dequeue(visit);
            give_up_join(gate, visit);
            continue;
        }
        if (error) { /* no room, no memory, or the bus is being lost: later, or never */
            gate->account.retries++;
            peer->again_ms = tp_clock_ms() + TP__GATE_RETRY_MS;
            break;
        }
        peer->again_ms = 0;
        dequeue(visit);
        visit->state = joins ? TP__VISIT_JOINING : TP__VISIT_LEAVING;
        peer->in_flight++;
    }
}

bool tp__gate_pump_all(tp__gate *gate) {
    bool more = false;
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            tp__gate_pump(gate, peer);
            more |= is_busy(peer);
        }
    }
    return more;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* It will be said again, not at once. */
static void again(tp__gate *gate, tp__gate_visit *visit, tp__visit_state state) {
    gate->account.retries++;
    visit->peer->again_ms = tp_clock_ms() + TP__GATE_RETRY_MS;
    enqueue(visit, state);
}

/* The visit goes on without its player. */
static void refuse_player(tp__gate *gate, tp__gate_visit *visit, uint16_t close_code) {
    tp__gate_player *player = visit->player;
    gate->account.refused_joins++;
    if (player) {
        TP__REFUSED(TP_LOG_INFO, "gate", &player->address, "the service does not take him");
        part(visit);
        tp__gate_close_player(gate, player, close_code);
    }
}

/* Whoever does not understand JOIN has never heard of any player. */
static void turn_deaf(tp__gate *gate, tp__gate_peer *peer, tp_err error) {
    TP_LOG(TP_LOG_ERROR, "gate: peer %u of %s does not answer as a service for players should: %s",
        (unsigned)peer->id, peer->service->name, tp_err_text(error));
    peer->deaf = true;
    tp__gate_abandon(gate, peer);
}

/* The JOIN did not arrive. */
static void join_again(tp__gate *gate, tp__gate_visit *visit) {
    if (visit->player) {
        if (!visit->doubtful) {
            atomic_store_explicit(&visit->player->route, TP_NO_PEER, memory_order_relaxed);
        }
        again(gate, visit, TP__VISIT_DUE_JOIN);
    } else if (visit->doubtful) {
        again(gate, visit, TP__VISIT_DUE_LEAVE);
    } else {
        finish(gate, visit);
    }
}

/* His blob is larger than the hub, or the peer, takes. */
static void give_up_join(tp__gate *gate, tp__gate_visit *visit) {
    refuse_player(gate, visit, gate->options.lost_close);
    join_again(gate, visit);
}

static void on_join_answer(
    tp__gate *gate, tp__gate_visit *visit, tp_err error, const tp_gate_done *done) {
    switch (error) {
    case TP_OK:
        if (done->status == TP_GATE_REFUSED) {
            refuse_player(gate, visit, done->close_code);
            finish(gate, visit);
        } else if (!visit->player) {
            enqueue(visit, TP__VISIT_DUE_LEAVE);
        }
        break;
    case TP_ERR_TIMED_OUT:
    case TP_ERR_PEER_LOST:
        visit->doubtful = true;
        again(gate, visit, visit->player ? TP__VISIT_DUE_JOIN : TP__VISIT_DUE_LEAVE);
        break;
    case TP_ERR_TOO_LARGE:
        give_up_join(gate, visit);
        break;
    case TP_ERR_UNSUPPORTED:
    case TP_ERR_PROTOCOL:
        turn_deaf(gate, visit->peer, error);
        break;
    default:
        join_again(gate, visit);
        break;
    }
}

static void on_leave_answer(tp__gate *gate, tp__gate_visit *visit, tp_err error) {
    if (error && error != TP_ERR_UNSUPPORTED && error != TP_ERR_PROTOCOL) {
        again(gate, visit, TP__VISIT_DUE_LEAVE);
    } else {
        finish(gate, visit);
    }
}

static tp_err read_done(tp_packet *packet, tp_gate_done *done) {
    bool read = tp_gate_read_done(tp_packet_bytes(packet), tp_packet_size(packet), done);
    bool fits = read && (done->status == TP_GATE_OK || done->status == TP_GATE_REFUSED);
    return fits ? TP_OK : TP_ERR_PROTOCOL;
}

/* On a worker of lanclient's. */
static void on_answer(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    tp__gate *gate = tp_lanclient_context(client);
    tp__gate_visit *visit = context;
    tp_gate_done done = {0};
    (void)from;
    if (!error) {
        error = read_done(packet, &done);
    }
    tp_mutex_lock(&gate->mutex);
    tp__gate_peer *peer = visit->peer;
    if (!peer) {
        release(gate, visit); /* it was lost, and accounted for, before */
    } else {
        bool joins = visit->state == TP__VISIT_JOINING;
        peer->in_flight--;
        visit->state = TP__VISIT_JOINED; /* unless the answer says otherwise */
        if (joins) {
            on_join_answer(gate, visit, error, &done);
        } else {
            on_leave_answer(gate, visit, error);
        }
        tp__gate_pump(gate, peer);
    }
    tp_mutex_unlock(&gate->mutex);
}
