/*
 * Messages from players to services and back. No lock is taken, except lanclient's own for each
 * message that it sends, and the gate's mutex in route_under_mutex().
 *
 * From players: on_recv, on the server's workers. The bus's header takes all the headroom of a
 * packet, so the payload is copied behind the gate's header. To players: on_message, on lanclient's
 * workers. The gate's header is removed from the front, and the packet itself goes into the send
 * queues of all its receivers.
 *
 *     from_players = forwarded + the sum of dropped       to_players = sent + the sum of refused
 */
#include <assert.h>

#include "wanserver/gate/gate_internal.h"

/* Sessions that are looked up and sent to in one call. */
#define SESSIONS_AT_ONCE 256u

/* ---- from players ---------------------------------------------------------------------------- */

static tp__gate_drop drop_reason(tp_err error) {
    switch (error) {
    case TP_ERR_FULL:
        return TP__GATE_DROP_BUS_FULL;
    case TP_ERR_TOO_LARGE:
        return TP__GATE_DROP_TOO_LARGE;
    case TP_ERR_NO_MEMORY:
        return TP__GATE_DROP_NO_MEMORY;
    default: /* the bus is being lost */
        return TP__GATE_DROP_NO_SERVICE;
    }
}

/* Sends a copy of the player's message to the peer. */
static tp_err message_forward(
    tp__gate *gate, tp_session_id session, tp_peer_id peer, const tp_packet *packet) {
    assert(session != TP_NO_SESSION && peer != TP_NO_PEER);
    size_t size = tp_packet_size(packet);
    if (size > TP_PACKET_MAX - TP_GATE_DATA_SIZE) {
        return TP_ERR_TOO_LARGE;
    }
    tp_packet *message = tp_packet_new(TP_GATE_DATA_SIZE + size);
    if (!message) {
        return TP_ERR_NO_MEMORY;
    }
    tp_gate_write_data(tp_packet_put_space(message, TP_GATE_DATA_SIZE), session);
    tp_packet_put_bytes(message, tp_packet_bytes(packet), size);
    tp_err error = tp_lanclient_send(gate->client, peer, message, NULL);
    tp_packet_release(message);
    return error;
}

/* Counts a message that has no receiver. A player who sends from the waiting room breaks the
 * protocol and is closed. */
static void message_drop(tp__gate *gate, tp_session_id session, const tp__gate_player *player) {
    bool waiting = player && tp__gate_state_of(player) == TP__GATE_WAITING;
    tp__count_shared(&gate->dropped[waiting ? TP__GATE_DROP_WAITING : TP__GATE_DROP_NO_SERVICE], 1);
    if (waiting) {
        tp_server_turn_away(gate->server, session, TP_CLOSE_PROTOCOL);
    }
}

/* A player who is being admitted or moved may send and has no route for a moment. It is over when
 * the mutex is free. */
static tp_peer_id route_under_mutex(tp__gate *gate, const tp__gate_player *player) {
    tp__gate_state state = player ? tp__gate_state_of(player) : TP__GATE_ABSENT;
    if (state != TP__GATE_ENTERING && state != TP__GATE_AT_PEER) {
        return TP_NO_PEER;
    }
    tp_mutex_lock(&gate->mutex);
    tp_peer_id peer = atomic_load_explicit(&player->route, memory_order_relaxed);
    tp_mutex_unlock(&gate->mutex);
    return peer;
}

void tp__gate_on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    tp__gate *gate = tp_server_context(server);
    const tp__gate_player *player = tp__gate_find(gate, session);
    tp_peer_id peer =
        player ? atomic_load_explicit(&player->route, memory_order_acquire) : TP_NO_PEER;
    tp__count_shared(&gate->from_players, 1);
    if (TP_UNLIKELY(peer == TP_NO_PEER)) {
        peer = route_under_mutex(gate, player);
    }
    if (TP_UNLIKELY(peer == TP_NO_PEER)) {
        message_drop(gate, session, player);
        return;
    }
    tp_err error = message_forward(gate, session, peer, packet);
    tp__count_shared(TP_LIKELY(!error) ? &gate->forwarded : &gate->dropped[drop_reason(error)], 1);
}

void tp__gate_on_returned(tp_lanclient *client, const tp_returned *returned) {
    tp__gate *gate = tp_lanclient_context(client);
    if (returned->kind == TP_MESSAGE_SEND) { /* the other kinds are answers to services */
        tp__count_shared(&gate->returned, 1);
    }
}

/* ---- to players ------------------------------------------------------------------------------ */

/* Whether the peer's messages reach this session. */
static bool may_send_to(tp__gate *gate, tp_session_id session, tp_peer_id peer) {
    const tp__gate_player *player = tp__gate_find(gate, session);
    return player && atomic_load_explicit(&player->source, memory_order_acquire) == peer;
}

/* Copies into `sessions` those of the message's sessions from..from+count-1 that this peer may send
 * to. Returns how many. */
static size_t pick_players(tp__gate *gate, tp_peer_id peer, const uint8_t *message, size_t from,
    size_t count, tp_session_id *sessions) {
    size_t picked = 0;
    for (size_t i = from; i < from + count; i++) {
        tp_session_id session = tp_gate_get_session(message, i);
        if (TP_LIKELY(may_send_to(gate, session, peer))) {
            sessions[picked++] = session;
        }
    }
    return picked;
}

/* Sends the message to the `count` sessions in its header. From the last session to the first: the
 * first send writes the frame's header in front of the payload, over the end of the list. */
static void message_send(tp__gate *gate, tp_peer_id peer, tp_packet *packet, size_t count) {
    tp_session_id sessions[SESSIONS_AT_ONCE];
    const uint8_t *message = tp_packet_bytes(packet);
    size_t picked = 0;
    size_t sent = 0;
    tp_packet_pull_head(packet, tp_gate_send_size(count));
    for (size_t left = count; left > 0;) {
        size_t some = left < SESSIONS_AT_ONCE ? left : SESSIONS_AT_ONCE;
        left -= some;
        size_t fit = pick_players(gate, peer, message, left, some, sessions);
        picked += fit;
        sent += fit > 0 ? tp_server_send_many(gate->server, sessions, fit, packet) : 0;
    }
    assert(sent <= picked && picked <= count);
    tp__count_shared(&gate->to_players, count);
    tp__count_shared(&gate->sent, sent);
    if (TP_UNLIKELY(sent < count)) {
        tp__count_shared(&gate->refused[TP__GATE_REFUSED_NO_PLAYER], count - picked);
        tp__count_shared(&gate->refused[TP__GATE_REFUSED_NOT_TAKEN], picked - sent);
    }
}

void tp__gate_on_malformed(tp__gate *gate, const tp_delivery *from) {
    tp__count_shared(&gate->malformed, 1);
    tp_lanclient_decline(gate->client, from, TP_ERR_PROTOCOL);
}

void tp__gate_on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp__gate *gate = tp_lanclient_context(client);
    size_t count;
    if (TP_LIKELY(tp_gate_read_send(tp_packet_bytes(packet), tp_packet_size(packet), &count))) {
        message_send(gate, from->peer, packet, count);
    } else {
        tp__gate_on_malformed(gate, from);
    }
}
