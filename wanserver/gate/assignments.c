/*
 * Assignments: each is a player's stay at a peer of a service, from its JOIN until its LEAVE is
 * answered. gate_internal.h has their states, and why none is freed early.
 *
 * The result of a request, other than DONE, is one of two kinds:
 *   - it did not arrive: FULL, NO_MEMORY, NO_ROUTE, CANCELLED, TOO_LARGE, UNSUPPORTED, PROTOCOL;
 *   - it may have arrived: TIMED_OUT, PEER_LOST. The loss of the peer follows PEER_LOST.
 * A JOIN that may have arrived makes the assignment uncertain: then only a LEAVE ends it.
 *
 * Everything runs under the gate's mutex. Results come on lanclient's workers, which take it.
 *
 *     assignments_used = the peers' assignments + those that are lost and still in flight
 *     in_flight of a peer = its assignments in JOINING or LEAVING, at most TP__GATE_WINDOW
 */
#include <assert.h>
#include <string.h>

#include "core/log/refusal.h"
#include "os/clock.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* ---- lists ----------------------------------------------------------------------------------- */

static void assignment_enqueue(tp__gate_assignment *assignment, tp__assignment_state state) {
    TP_ASSERT_LOCKED(&assignment->gate->mutex);
    tp__gate_peer *peer = assignment->peer;
    assert(peer && (state == TP__ASSIGNMENT_DUE_JOIN || state == TP__ASSIGNMENT_DUE_LEAVE));
    assert((state == TP__ASSIGNMENT_DUE_JOIN) == (assignment->player != NULL));
    assignment->state = state;
    tp__list_append(&peer->queue, &assignment->queue);
}

static void assignment_dequeue(tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&assignment->gate->mutex);
    tp__list_remove(&assignment->peer->queue, &assignment->queue);
}

static void peer_add_assignment(tp__gate_peer *peer, tp__gate_assignment *assignment) {
    assert(!assignment->peer);
    assignment->peer = peer;
    tp__list_prepend(&peer->assignments, &assignment->link);
}

static void assignment_remove_from_peer(tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&assignment->gate->mutex);
    tp__list_remove(&assignment->peer->assignments, &assignment->link);
    assignment->peer = NULL;
}

/* ---- begin and end --------------------------------------------------------------------------- */

/* No pointer to it is left: it is in no list of a peer, and lanclient has called back. */
static void assignment_free(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(!assignment->peer && !assignment->player && gate->assignments_used > 0);
    tp__list_prepend(&gate->free_assignments, &assignment->queue);
    gate->assignments_used--;
    tp_condition_wake_all(&gate->assignment_freed);
}

/* The peer has confirmed that the player has left, or has never had a JOIN. */
static void assignment_finish(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assignment_remove_from_peer(assignment);
    if (assignment->join_sent) {
        assert(gate->assignments_announced > 0);
        gate->assignments_announced--;
        gate->stats.confirmed_leaves++;
    }
    assignment_free(gate, assignment);
}

/* Separates the player from the assignment, which stays. */
static void assignment_detach_player(tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&assignment->gate->mutex);
    tp__gate_player *player = assignment->player;
    assert(player->assignment == assignment && assignment->peer->players > 0);
    atomic_store_explicit(&player->route, TP_NO_PEER, memory_order_relaxed);
    atomic_store_explicit(&player->source, TP_NO_PEER, memory_order_relaxed);
    player->assignment = NULL;
    assignment->player = NULL;
    assignment->peer->players--;
}

/* Requests to it are in its queue or in flight. */
static bool peer_is_busy(const tp__gate_peer *peer) {
    return peer->queue.count > 0 || peer->in_flight > 0;
}

/* Sends what is due, and schedules the tick, which repeats itself until all of it is answered. It
 * must be scheduled here: when an answer comes, the player may have left and the server may have
 * been destroyed (tp__gate_schedule_tick). */
static void peer_send_due(tp__gate *gate, tp__gate_peer *peer) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_send_due(gate, peer);
    if (peer_is_busy(peer)) {
        tp__gate_schedule_tick(gate);
    }
}

bool tp__gate_begin_assignment(tp__gate *gate, tp__gate_player *player, tp__gate_peer *peer) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(!player->assignment && peer->service == player->service && !peer->incompatible);
    tp__gate_assignment *assignment = tp__assignment_in_queue(gate->free_assignments.first);
    if (!assignment) {
        return false;
    }
    tp__list_remove(&gate->free_assignments, &assignment->queue);
    gate->assignments_used++;
    assert(gate->assignments_used <= TP__GATE_ASSIGNMENTS(&gate->options));
    *assignment = (tp__gate_assignment){.gate = gate,
        .player = player,
        .session = tp__gate_session_of(player),
        .number = ++gate->last_assignment_number};
    peer_add_assignment(peer, assignment);
    peer->players++;
    player->assignment = assignment;
    tp__gate_set_state(player, TP__GATE_AT_PEER);
    assignment_enqueue(assignment, TP__ASSIGNMENT_DUE_JOIN);
    peer_send_due(gate, peer);
    return true;
}

void tp__gate_end_assignment(tp__gate *gate, tp__gate_player *player, uint16_t why, uint16_t end) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_assignment *assignment = player->assignment;
    tp__gate_peer *peer = assignment->peer;
    assert(assignment->player == player && peer);
    assert(assignment->state != TP__ASSIGNMENT_DUE_LEAVE);
    assert(assignment->state != TP__ASSIGNMENT_LEAVING);
    assignment_detach_player(assignment);
    assignment->why = why;
    assignment->end = end;
    if (assignment->state == TP__ASSIGNMENT_JOINED) {
        assignment_enqueue(assignment, TP__ASSIGNMENT_DUE_LEAVE);
    } else if (assignment->state == TP__ASSIGNMENT_DUE_JOIN) {
        assignment_dequeue(assignment);
        if (assignment->uncertain) {
            assignment_enqueue(assignment, TP__ASSIGNMENT_DUE_LEAVE);
        } else {
            assignment_finish(gate, assignment);
        }
    } /* JOINING: on_join_answer() decides */
    peer_send_due(gate, peer);
}

tp__gate_player *tp__gate_lose_assignment(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = assignment->player;
    if (player) {
        bool known = assignment->join_sent && !assignment->peer->incompatible;
        player->flags |= known ? TP_GATE_RETURN : 0;
        assignment_detach_player(assignment);
    }
    if (tp__assignment_is_due(assignment)) {
        assignment_dequeue(assignment);
    }
    if (assignment->join_sent) {
        assert(gate->assignments_announced > 0);
        gate->assignments_announced--;
        gate->stats.lost_visits++;
    }
    bool awaited = tp__assignment_is_in_flight(assignment);
    assert(assignment->peer->in_flight >= awaited);
    assignment->peer->in_flight -= awaited;
    assignment_remove_from_peer(assignment);
    if (!awaited) {
        assignment_free(gate, assignment);
    }
    return player;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void on_assignment_answer(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context);

static void join_give_up(tp__gate *gate, tp__gate_assignment *assignment);

static tp_packet *join_packet(tp__gate *gate, const tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    const tp__gate_player *player = assignment->player;
    tp_gate_join join = {.flags = player->flags,
        .port = player->address.port,
        .session = assignment->session,
        .visit = assignment->number,
        .blob = player->blob,
        .blob_size = player->blob_size};
    memcpy(join.ip, player->address.ip, sizeof join.ip);
    tp_identity who = {.size = sizeof who};
    if (gate->options.identity && gate->options.identity(gate->server, assignment->session, &who)) {
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

static tp_packet *leave_packet(const tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&assignment->gate->mutex);
    assert(!assignment->player);
    const tp_gate_left left = {.session = assignment->session,
        .visit = assignment->number,
        .why = assignment->why,
        .end = assignment->end};
    tp_packet *packet = tp_packet_new(TP_GATE_LEAVE_SIZE);
    if (packet) {
        tp_gate_write_leave(tp_packet_put_space(packet, TP_GATE_LEAVE_SIZE), &left);
    }
    return packet;
}

static void count_join(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (assignment->join_sent) {
        return;
    }
    assignment->join_sent = true;
    gate->assignments_announced++;
    gate->stats.joined++;
    gate->stats.returns += (assignment->player->flags & TP_GATE_RETURN) != 0;
}

/* Releases `packet`. */
static tp_err assignment_request(
    tp__gate *gate, tp__gate_assignment *assignment, tp_packet *packet) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp_err error = packet ? tp_lanclient_request(gate->client, assignment->peer->id, packet, 0,
                                on_assignment_answer, assignment, NULL)
                          : TP_ERR_NO_MEMORY;
    tp_packet_release(packet);
    return error;
}

static tp_err send_join(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = assignment->player;
    atomic_store_explicit(&player->source, assignment->peer->id, memory_order_release);
    tp_err error = assignment_request(gate, assignment, join_packet(gate, assignment));
    if (!error) {
        atomic_store_explicit(&player->route, assignment->peer->id, memory_order_release);
        count_join(gate, assignment);
    } else if (!assignment->uncertain) {
        atomic_store_explicit(&player->source, TP_NO_PEER, memory_order_relaxed);
    }
    return error;
}

/* The answer is not handled before the state is set: that takes the mutex. */
void tp__gate_send_due(tp__gate *gate, tp__gate_peer *peer) {
    TP_ASSERT_LOCKED(&gate->mutex);
    while (peer->queue.count > 0 && peer->in_flight < TP__GATE_WINDOW &&
           (peer->retry_at_ms == 0 || tp_clock_ms() >= peer->retry_at_ms)) {
        tp__gate_assignment *assignment = tp__assignment_in_queue(peer->queue.first);
        bool joins = assignment->state == TP__ASSIGNMENT_DUE_JOIN;
        tp_err error = joins ? send_join(gate, assignment)
                             : assignment_request(gate, assignment, leave_packet(assignment));
        if (error == TP_ERR_TOO_LARGE && joins) { /* for the hub, and so it would be later */
            assignment_dequeue(assignment);
            join_give_up(gate, assignment);
            continue;
        }
        if (error) { /* bus full, no memory, or bus being lost: try later */
            gate->stats.retries++;
            peer->retry_at_ms = tp_clock_ms() + TP__GATE_RETRY_MS;
            break;
        }
        peer->retry_at_ms = 0;
        assignment_dequeue(assignment);
        assignment->state = joins ? TP__ASSIGNMENT_JOINING : TP__ASSIGNMENT_LEAVING;
        peer->in_flight++;
        assert(peer->in_flight <= TP__GATE_WINDOW);
    }
}

bool tp__gate_send_all_due(tp__gate *gate) {
    TP_ASSERT_LOCKED(&gate->mutex);
    bool more = false;
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            tp__gate_send_due(gate, peer);
            more |= peer_is_busy(peer);
        }
    }
    return more;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Queues the request again; it is sent after TP__GATE_RETRY_MS at the earliest. */
static void assignment_retry(
    tp__gate *gate, tp__gate_assignment *assignment, tp__assignment_state state) {
    TP_ASSERT_LOCKED(&gate->mutex);
    gate->stats.retries++;
    assignment->peer->retry_at_ms = tp_clock_ms() + TP__GATE_RETRY_MS;
    assignment_enqueue(assignment, state);
}

/* Closes the player, if present. The caller ends the assignment. */
static void join_refuse_player(
    tp__gate *gate, tp__gate_assignment *assignment, uint16_t close_code) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = assignment->player;
    assert(!player || tp__gate_state_of(player) == TP__GATE_AT_PEER);
    gate->stats.refused_joins++;
    if (player) {
        TP__REFUSED(
            TP_LOG_INFO, "gate", &player->address, "the service does not accept the player");
        assignment_detach_player(assignment);
        tp__gate_close_player(gate, player, close_code);
    }
}

/* A peer that does not understand JOIN has no players of this gate. */
static void peer_mark_incompatible(tp__gate *gate, tp__gate_peer *peer, tp_err error) {
    TP_ASSERT_LOCKED(&gate->mutex);
    TP_LOG(TP_LOG_ERROR, "gate: peer %u of %s is incompatible with the gate protocol: %s",
        (unsigned)peer->id, peer->service->name, tp_err_text(error));
    peer->incompatible = true;
    tp__gate_reassign_players(gate, peer);
}

/* The JOIN did not arrive. It is sent again while the player is present. Else a LEAVE follows if an
 * earlier JOIN may have arrived. */
static void join_retry(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (assignment->player) {
        if (!assignment->uncertain) {
            atomic_store_explicit(&assignment->player->route, TP_NO_PEER, memory_order_relaxed);
        }
        assignment_retry(gate, assignment, TP__ASSIGNMENT_DUE_JOIN);
    } else if (assignment->uncertain) {
        assignment_retry(gate, assignment, TP__ASSIGNMENT_DUE_LEAVE);
    } else {
        assignment_finish(gate, assignment);
    }
}

/* The JOIN, with its blob, is larger than the hub or the peer accepts. */
static void join_give_up(tp__gate *gate, tp__gate_assignment *assignment) {
    TP_ASSERT_LOCKED(&gate->mutex);
    join_refuse_player(gate, assignment, gate->options.lost_close);
    join_retry(gate, assignment);
}

static void on_join_answer(
    tp__gate *gate, tp__gate_assignment *assignment, tp_err error, const tp_gate_done *done) {
    TP_ASSERT_LOCKED(&gate->mutex);
    switch (error) {
    case TP_OK:
        if (done->status == TP_GATE_REFUSED) {
            join_refuse_player(gate, assignment, done->close_code);
            assignment_finish(gate, assignment);
        } else if (!assignment->player) {
            assignment_enqueue(assignment, TP__ASSIGNMENT_DUE_LEAVE);
        }
        break;
    case TP_ERR_TIMED_OUT:
    case TP_ERR_PEER_LOST:
        assignment->uncertain = true;
        assignment_retry(gate, assignment,
            assignment->player ? TP__ASSIGNMENT_DUE_JOIN : TP__ASSIGNMENT_DUE_LEAVE);
        break;
    case TP_ERR_TOO_LARGE:
        join_give_up(gate, assignment);
        break;
    case TP_ERR_UNSUPPORTED:
    case TP_ERR_PROTOCOL:
        peer_mark_incompatible(gate, assignment->peer, error);
        break;
    default:
        join_retry(gate, assignment);
        break;
    }
}

static void on_leave_answer(tp__gate *gate, tp__gate_assignment *assignment, tp_err error) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (error && error != TP_ERR_UNSUPPORTED && error != TP_ERR_PROTOCOL) {
        assignment_retry(gate, assignment, TP__ASSIGNMENT_DUE_LEAVE);
    } else {
        assignment_finish(gate, assignment);
    }
}

static tp_err read_done(tp_packet *packet, tp_gate_done *done) {
    bool read = tp_gate_read_done(tp_packet_bytes(packet), tp_packet_size(packet), done);
    bool fits = read && (done->status == TP_GATE_OK || done->status == TP_GATE_REFUSED);
    return fits ? TP_OK : TP_ERR_PROTOCOL;
}

/* lanclient's callback, exactly once for each request. On a worker of lanclient. */
static void on_assignment_answer(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    tp__gate *gate = tp_lanclient_context(client);
    tp__gate_assignment *assignment = context;
    tp_gate_done done = {0};
    (void)from;
    if (!error) {
        error = read_done(packet, &done);
    }
    tp_mutex_lock(&gate->mutex);
    tp__gate_peer *peer = assignment->peer;
    assert(assignment->gate == gate && tp__assignment_is_in_flight(assignment));
    if (!peer) {
        assignment_free(gate, assignment); /* tp__gate_lose_assignment() has counted it */
    } else {
        bool joins = assignment->state == TP__ASSIGNMENT_JOINING;
        assert(peer->in_flight > 0);
        peer->in_flight--;
        assignment->state = TP__ASSIGNMENT_JOINED; /* unless a function below changes it */
        if (joins) {
            on_join_answer(gate, assignment, error, &done);
        } else {
            on_leave_answer(gate, assignment, error);
        }
        tp__gate_send_due(gate, peer);
    }
    tp_mutex_unlock(&gate->mutex);
}
