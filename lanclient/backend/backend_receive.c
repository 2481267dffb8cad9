/*
 * Deliveries from the bus: players' JOINs, LEAVEs and messages from the gates; all others are
 * passed to the application's own bus handlers. Runs in the lanclient's handlers, one after
 * another.
 *
 * JOIN and LEAVE are requests, which the gate repeats until they are answered, so each may arrive
 * twice: the assignment's number identifies one that has been processed. They are answered before
 * the application's handler runs.
 */
#include <assert.h>
#include <string.h>

#include "core/log/refusal.h"
#include "lanclient/backend/backend_internal.h"
#include "lanclient/client/client.h"
#include "proto/frame.h"
#include "twinport/log.h"

/* ---- leaving --------------------------------------------------------------------------------- */

static void backend_player_leaves(tp_backend *backend, tp__backend_gate *gate,
    tp__backend_player *player, tp_leave why, tp_end_reason end) {
    tp_player handle = player->info.player;
    tp__backend_remove_player(backend, gate, player);
    tp__count_shared(&backend->left, 1);
    if (backend->handlers.on_player_leave) {
        backend->handlers.on_player_leave(backend, &handle, why, end);
    }
}

/* The reason why all players of a gate leave at once. The lanclient is off the bus before it
 * reports its peers as down. */
static tp_leave backend_loss_reason(const tp_backend *backend) {
    if (tp_lanclient_self(backend->client) != TP_NO_PEER) {
        return TP_LEAVE_GATE_LOST;
    }
    return tp__lanclient_stopping(backend->client) ? TP_LEAVE_STOPPED : TP_LEAVE_BUS_LOST;
}

/* ---- peers ----------------------------------------------------------------------------------- */

static void backend_on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    tp_backend *backend = tp_backend_of(client);
    if (strcmp(peer->service, backend->gate_service) == 0 &&
        !tp__backend_open_gate(backend, peer->id)) {
        backend->surplus_gates++;
        TP_LOG(TP_LOG_ERROR,
            "backend %s: gate %s not accepted, its players are refused: max_gates %u reached",
            backend->options.bus.service, peer->instance, backend->options.max_gates);
    }
    if (backend->handlers.bus.on_peer_up) {
        backend->handlers.bus.on_peer_up(client, peer);
    }
}

static void backend_on_peer_down(tp_lanclient *client, const tp_peer *peer) {
    tp_backend *backend = tp_backend_of(client);
    tp__backend_gate *gate = tp__backend_find_gate(backend, peer->id);
    if (gate) {
        tp_leave why = backend_loss_reason(backend);
        while (gate->count > 0) {
            backend_player_leaves(
                backend, gate, &backend->players[gate->indexes[gate->count - 1]], why, TP_END_NONE);
        }
        tp__backend_close_gate(backend, gate);
    } else if (strcmp(peer->service, backend->gate_service) == 0) {
        backend->surplus_gates--;
    }
    if (backend->handlers.bus.on_peer_down) {
        backend->handlers.bus.on_peer_down(client, peer);
    }
}

/* True for a surplus gate. */
static bool backend_is_surplus_gate(tp_backend *backend, tp_peer_id id) {
    tp_peer peer = {.size = sizeof peer};
    return backend->surplus_gates > 0 && tp_lanclient_find_peer(backend->client, id, &peer) &&
           strcmp(peer.service, backend->gate_service) == 0;
}

/* Gives a surplus gate an entry that has become free since. NULL: there is none. */
static tp__backend_gate *backend_admit_surplus_gate(tp_backend *backend, tp_peer_id id) {
    assert(backend->surplus_gates > 0);
    tp__backend_gate *gate = tp__backend_open_gate(backend, id);
    backend->surplus_gates -= gate != NULL;
    return gate;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Answers a gate's request. If the answer cannot be sent, the gate repeats the request. */
static void backend_answer(
    tp_backend *backend, const tp_delivery *from, tp_gate_status status, uint16_t close_code) {
    const tp_gate_done done = {.status = (uint8_t)status, .close_code = close_code};
    tp_packet *packet = tp_packet_new(TP_GATE_DONE_SIZE);
    if (packet) {
        tp_gate_write_done(tp_packet_put_space(packet, TP_GATE_DONE_SIZE), &done);
        (void)tp_lanclient_reply(backend->client, from, packet, NULL);
    }
    tp_packet_release(packet);
}

static tp_player_info backend_join_info(const tp_gate_join *join) {
    tp_player_info info = {.size = sizeof info,
        .player.session = join->session,
        .flags = join->flags & (TP_PLAYER_RETURNS | TP_PLAYER_MOVED | TP_PLAYER_IDENTIFIED),
        .account_flags = join->identity_flags,
        .account = join->account,
        .address.port = join->port,
        .blob = join->blob_size ? join->blob : NULL,
        .blob_size = join->blob_size};
    memcpy(info.user_data, join->user_data, sizeof info.user_data);
    memcpy(info.address.ip, join->ip, sizeof info.address.ip);
    return info;
}

static void backend_log_refusal(const tp_backend *backend, const tp_address *player, tp_err error) {
    const char *service = backend->options.bus.service;
    if (error == TP_ERR_FULL) {
        TP__REFUSED(TP_LOG_WARNING, service, player, "max_players reached");
    } else {
        TP__REFUSED(TP_LOG_WARNING, service, player, tp_err_text(error));
    }
}

static void backend_player_joins(tp_backend *backend, tp__backend_gate *gate,
    const tp_delivery *from, const tp_gate_join *join) {
    tp_player_info info = backend_join_info(join);
    tp_err error = tp__backend_add_player(backend, gate, join->visit, &info);
    if (error) {
        tp__count_shared(&backend->refused, 1);
        backend_log_refusal(backend, &info.address, error);
        backend_answer(backend, from, TP_GATE_REFUSED, TP_CLOSE_FULL);
        return;
    }
    tp__count_shared(&backend->joined, 1);
    tp__count_shared(&backend->returned_players, (info.flags & TP_PLAYER_RETURNS) != 0);
    backend_answer(backend, from, TP_GATE_OK, 0);
    if (backend->handlers.on_player_join) {
        backend->handlers.on_player_join(backend, &info);
    }
}

static void backend_on_join(tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from,
    const tp_gate_join *join) {
    tp__backend_player *present = tp__backend_in_slot(backend, gate, join->session);
    if (present && present->info.player.session == join->session) {
        uint32_t newer = join->visit - present->assignment;
        if (newer == 0 || newer > UINT32_MAX / 2) {
            backend_answer(backend, from, TP_GATE_OK, 0);
            return;
        }
    }
    if (present) { /* its LEAVE has not arrived yet */
        backend_player_leaves(backend, gate, present, TP_LEAVE_REPLACED, TP_END_NONE);
    }
    backend_player_joins(backend, gate, from, join);
}

static void backend_on_leave(tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from,
    const tp_gate_left *left) {
    tp__backend_player *player = tp__backend_in_slot(backend, gate, left->session);
    backend_answer(backend, from, TP_GATE_OK, 0);
    if (!player || player->info.player.session != left->session ||
        player->assignment != left->visit) {
        return; /* processed already */
    }
    bool moved = left->why == TP_GATE_LEAVE_MOVED;
    bool known = !moved && left->end < TP_END_REASON_COUNT;
    backend_player_leaves(backend, gate, player, moved ? TP_LEAVE_MOVED : TP_LEAVE_ENDED,
        known ? (tp_end_reason)left->end : TP_END_NONE);
}

/* ---- messages and requests ------------------------------------------------------------------- */

static void backend_on_malformed(tp_backend *backend, const tp_delivery *from) {
    tp__count_shared(&backend->malformed, 1);
    TP_LOG(TP_LOG_WARNING, "backend %s: malformed message of gate %u returned",
        backend->options.bus.service, (unsigned)from->peer);
    tp_lanclient_decline(backend->client, from, TP_ERR_PROTOCOL);
}

static void backend_on_data(
    tp_backend *backend, const tp__backend_gate *gate, const tp_delivery *from, tp_packet *packet) {
    tp_session_id session;
    if (TP_UNLIKELY(
            !tp_gate_read_data(tp_packet_bytes(packet), tp_packet_size(packet), &session))) {
        backend_on_malformed(backend, from);
        return;
    }
    const tp__backend_player *player = tp__backend_in_slot(backend, gate, session);
    if (TP_UNLIKELY(!player || player->info.player.session != session)) {
        tp__count_shared(&backend->unknown, 1);
        return;
    }
    tp__count_shared(&backend->received, 1);
    if (TP_LIKELY(backend->handlers.on_player_message != NULL)) {
        /* A copy, because the player may leave during the handler. */
        tp_player handle = player->info.player;
        tp_packet_pull_head(packet, TP_GATE_DATA_SIZE);
        backend->handlers.on_player_message(backend, &handle, packet);
    }
}

static void backend_on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_backend *backend = tp_backend_of(client);
    const tp__backend_gate *gate = tp__backend_find_gate(backend, from->peer);
    if (TP_LIKELY(gate != NULL)) {
        backend_on_data(backend, gate, from, packet);
    } else if (TP_UNLIKELY(backend_is_surplus_gate(backend, from->peer))) {
        tp__count_shared(&backend->unknown, 1); /* of players that are being refused */
    } else if (backend->handlers.bus.on_message) {
        backend->handlers.bus.on_message(client, from, packet);
    } else {
        tp_lanclient_decline(client, from, TP_ERR_UNSUPPORTED);
    }
}

static void backend_on_gate_request(
    tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from, const tp_packet *packet) {
    const uint8_t *bytes = tp_packet_bytes(packet);
    size_t size = tp_packet_size(packet);
    tp_gate_join join;
    tp_gate_left left;
    if (tp_gate_read_join(bytes, size, &join)) {
        backend_on_join(backend, gate, from, &join);
    } else if (tp_gate_read_leave(bytes, size, &left)) {
        backend_on_leave(backend, gate, from, &left);
    } else {
        backend_on_malformed(backend, from);
    }
}

static void backend_on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_backend *backend = tp_backend_of(client);
    tp__backend_gate *gate = tp__backend_find_gate(backend, from->peer);
    bool surplus = !gate && backend_is_surplus_gate(backend, from->peer);
    if (surplus) {
        gate = backend_admit_surplus_gate(backend, from->peer);
    }
    if (gate) {
        backend_on_gate_request(backend, gate, from, packet);
    } else if (surplus) {
        tp__count_shared(&backend->refused, 1);
        TP_LOG(TP_LOG_WARNING, "%s: refused a player of gate %u: max_gates reached",
            backend->options.bus.service, (unsigned)from->peer);
        backend_answer(backend, from, TP_GATE_REFUSED, TP_CLOSE_FULL);
    } else if (backend->handlers.bus.on_request) {
        backend->handlers.bus.on_request(client, from, packet);
    } else {
        tp_lanclient_decline(client, from, TP_ERR_UNSUPPORTED);
    }
}

static void backend_on_returned(tp_lanclient *client, const tp_returned *returned) {
    tp_backend *backend = tp_backend_of(client);
    tp__count_shared(&backend->returned, 1);
    if (backend->handlers.bus.on_returned) {
        backend->handlers.bus.on_returned(client, returned);
    }
}

static void backend_on_up(tp_lanclient *client, tp_peer_id self) {
    tp_backend *backend = tp_backend_of(client);
    if (backend->handlers.on_up) {
        backend->handlers.on_up(backend, self);
    }
}

static void backend_on_down(tp_lanclient *client, tp_err why) {
    tp_backend *backend = tp_backend_of(client);
    if (backend->handlers.on_down) {
        backend->handlers.on_down(backend, why);
    }
}

const tp_lanclient_handlers tp__backend_bus_handlers = {.size = sizeof(tp_lanclient_handlers),
    .on_up = backend_on_up,
    .on_down = backend_on_down,
    .on_peer_up = backend_on_peer_up,
    .on_peer_down = backend_on_peer_down,
    .on_message = backend_on_message,
    .on_request = backend_on_request,
    .on_returned = backend_on_returned};
