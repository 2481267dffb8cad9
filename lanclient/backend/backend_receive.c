/*
 * What comes from the bus: players' coming, going and talking out of the gates' messages, and
 * everything else on to the user's own handlers. Runs in the lanclient's handlers, one after
 * another.
 *
 * JOIN and LEAVE are requests, said again until they are answered, so each may come twice: the
 * visit's number tells one that has been dealt with. They are answered before the user's handler
 * runs.
 */
#include <string.h>

#include "core/log/refusal.h"
#include "lanclient/backend/backend_internal.h"
#include "lanclient/client/client.h"
#include "proto/frame.h"
#include "twinport/log.h"

/* ---- leaving --------------------------------------------------------------------------------- */

static void leave(tp_backend *backend, tp__backend_gate *gate, tp__backend_player *player,
    tp_leave why, tp_end_reason end) {
    tp_player name = player->info.player;
    tp__backend_exit(backend, gate, player);
    tp__backend_count(&backend->left, 1);
    if (backend->handlers.on_player_leave) {
        backend->handlers.on_player_leave(backend, &name, why, end);
    }
}

/* Why all players of a gate leave at once. The lanclient is off the bus before it says that its
 * peers are gone. */
static tp_leave why_lost(const tp_backend *backend) {
    if (tp_lanclient_self(backend->client) != TP_NO_PEER) {
        return TP_LEAVE_GATE_LOST;
    }
    return tp__lanclient_stopping(backend->client) ? TP_LEAVE_STOPPED : TP_LEAVE_BUS_LOST;
}

/* ---- peers ----------------------------------------------------------------------------------- */

static void on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    tp_backend *backend = tp_backend_of(client);
    if (strcmp(peer->service, backend->gate_service) == 0 &&
        !tp__backend_open_gate(backend, peer->id)) {
        backend->strangers++;
        TP_LOG(TP_LOG_ERROR, "backend %s: more than %u gates: the players of %s are refused",
            backend->options.bus.service, backend->options.max_gates, peer->instance);
    }
    if (backend->handlers.bus.on_peer_up) {
        backend->handlers.bus.on_peer_up(client, peer);
    }
}

static void on_peer_down(tp_lanclient *client, const tp_peer *peer) {
    tp_backend *backend = tp_backend_of(client);
    tp__backend_gate *gate = tp__backend_find_gate(backend, peer->id);
    if (gate) {
        tp_leave why = why_lost(backend);
        while (gate->count > 0) {
            leave(
                backend, gate, &backend->players[gate->indexes[gate->count - 1]], why, TP_END_NONE);
        }
        tp__backend_close_gate(backend, gate);
    } else if (strcmp(peer->service, backend->gate_service) == 0) {
        backend->strangers--;
    }
    if (backend->handlers.bus.on_peer_down) {
        backend->handlers.bus.on_peer_down(client, peer);
    }
}

/* Is it a gate that found no place? */
static bool is_stranger(tp_backend *backend, tp_peer_id id) {
    tp_peer peer = {.size = sizeof peer};
    return backend->strangers > 0 && tp_lanclient_find_peer(backend->client, id, &peer) &&
           strcmp(peer.service, backend->gate_service) == 0;
}

/* A gate that found no place when it came gets one that has become free since. NULL: there is
 * none. */
static tp__backend_gate *admit_stranger(tp_backend *backend, tp_peer_id id) {
    tp__backend_gate *gate = tp__backend_open_gate(backend, id);
    backend->strangers -= gate != NULL;
    return gate;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* If it does not leave, the gate asks again. */
static void answer(
    tp_backend *backend, const tp_delivery *from, tp_gate_status status, uint16_t close_code) {
    const tp_gate_done done = {.status = (uint8_t)status, .close_code = close_code};
    tp_packet *packet = tp_packet_new(TP_GATE_DONE_SIZE);
    if (packet) {
        tp_gate_write_done(tp_packet_put_space(packet, TP_GATE_DONE_SIZE), &done);
        (void)tp_lanclient_reply(backend->client, from, packet, NULL);
    }
    tp_packet_release(packet);
}

static tp_player_info info_of(const tp_gate_join *join) {
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

static void say_refused(const tp_backend *backend, const tp_address *player, tp_err error) {
    const char *service = backend->options.bus.service;
    if (error == TP_ERR_FULL) {
        TP__REFUSED(TP_LOG_WARNING, service, player, "max_players are at this service");
    } else {
        TP__REFUSED(TP_LOG_WARNING, service, player, tp_err_text(error));
    }
}

static void join(tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from,
    const tp_gate_join *joining) {
    tp_player_info info = info_of(joining);
    tp_err error = tp__backend_enter(backend, gate, joining->visit, &info);
    if (error) {
        tp__backend_count(&backend->refused, 1);
        say_refused(backend, &info.address, error);
        answer(backend, from, TP_GATE_REFUSED, TP_CLOSE_FULL);
        return;
    }
    tp__backend_count(&backend->joined, 1);
    tp__backend_count(&backend->returned_players, (info.flags & TP_PLAYER_RETURNS) != 0);
    answer(backend, from, TP_GATE_OK, 0);
    if (backend->handlers.on_player_join) {
        backend->handlers.on_player_join(backend, &info);
    }
}

static void on_join(tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from,
    const tp_gate_join *joining) {
    tp__backend_player *there = tp__backend_in_slot(backend, gate, joining->session);
    if (there && there->info.player.session == joining->session) {
        uint32_t newer = joining->visit - there->visit;
        if (newer == 0 || newer > UINT32_MAX / 2) {
            answer(backend, from, TP_GATE_OK, 0);
            return;
        }
    }
    if (there) { /* a LEAVE that is still on its way */
        leave(backend, gate, there, TP_LEAVE_REPLACED, TP_END_NONE);
    }
    join(backend, gate, from, joining);
}

static void on_leave(tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from,
    const tp_gate_left *left) {
    tp__backend_player *player = tp__backend_in_slot(backend, gate, left->session);
    answer(backend, from, TP_GATE_OK, 0);
    if (!player || player->info.player.session != left->session || player->visit != left->visit) {
        return; /* it has been dealt with */
    }
    bool moved = left->why == TP_GATE_LEAVE_MOVED;
    bool known = !moved && left->end < TP_END_REASON_COUNT;
    leave(backend, gate, player, moved ? TP_LEAVE_MOVED : TP_LEAVE_ENDED,
        known ? (tp_end_reason)left->end : TP_END_NONE);
}

/* ---- messages and requests ------------------------------------------------------------------- */

static void on_malformed(tp_backend *backend, const tp_delivery *from) {
    tp__backend_count(&backend->malformed, 1);
    TP_LOG(TP_LOG_WARNING, "backend %s: gate %u says what is no gate's to say",
        backend->options.bus.service, (unsigned)from->peer);
    tp_lanclient_decline(backend->client, from, TP_ERR_PROTOCOL);
}

static void on_data(
    tp_backend *backend, const tp__backend_gate *gate, const tp_delivery *from, tp_packet *packet) {
    tp_session_id session;
    if (TP_UNLIKELY(
            !tp_gate_read_data(tp_packet_bytes(packet), tp_packet_size(packet), &session))) {
        on_malformed(backend, from);
        return;
    }
    const tp__backend_player *player = tp__backend_in_slot(backend, gate, session);
    if (TP_UNLIKELY(!player || player->info.player.session != session)) {
        tp__backend_count(&backend->unknown, 1);
        return;
    }
    tp__backend_count(&backend->received, 1);
    if (TP_LIKELY(backend->handlers.on_player_message != NULL)) {
        tp_player name = player->info.player; /* he may leave within the handler's calls */
        tp_packet_pull_head(packet, TP_GATE_DATA_SIZE);
        backend->handlers.on_player_message(backend, &name, packet);
    }
}

static void on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_backend *backend = tp_backend_of(client);
    const tp__backend_gate *gate = tp__backend_find_gate(backend, from->peer);
    if (TP_LIKELY(gate != NULL)) {
        on_data(backend, gate, from, packet);
    } else if (TP_UNLIKELY(is_stranger(backend, from->peer))) {
        tp__backend_count(&backend->unknown, 1); /* of players that are being refused */
    } else if (backend->handlers.bus.on_message) {
        backend->handlers.bus.on_message(client, from, packet);
    } else {
        tp_lanclient_decline(client, from, TP_ERR_UNSUPPORTED);
    }
}

static void on_gate_request(
    tp_backend *backend, tp__backend_gate *gate, const tp_delivery *from, const tp_packet *packet) {
    const uint8_t *bytes = tp_packet_bytes(packet);
    size_t size = tp_packet_size(packet);
    tp_gate_join joining;
    tp_gate_left left;
    if (tp_gate_read_join(bytes, size, &joining)) {
        on_join(backend, gate, from, &joining);
    } else if (tp_gate_read_leave(bytes, size, &left)) {
        on_leave(backend, gate, from, &left);
    } else {
        on_malformed(backend, from);
    }
}

static void on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_backend *backend = tp_backend_of(client);
    tp__backend_gate *gate = tp__backend_find_gate(backend, from->peer);
    bool stranger = !gate && is_stranger(backend, from->peer);
    if (stranger) {
        gate = admit_stranger(backend, from->peer);
    }
    if (gate) {
        on_gate_request(backend, gate, from, packet);
    } else if (stranger) {
        tp__backend_count(&backend->refused, 1);
        TP_LOG(TP_LOG_WARNING, "%s: refused a player of gate %u: max_gates are known",
            backend->options.bus.service, (unsigned)from->peer);
        answer(backend, from, TP_GATE_REFUSED, TP_CLOSE_FULL);
    } else if (backend->handlers.bus.on_request) {
        backend->handlers.bus.on_request(client, from, packet);
    } else {
        tp_lanclient_decline(client, from, TP_ERR_UNSUPPORTED);
    }
}

static void on_returned(tp_lanclient *client, const tp_returned *returned) {
    tp_backend *backend = tp_backend_of(client);
    tp__backend_count(&backend->returned, 1);
    if (backend->handlers.bus.on_returned) {
        backend->handlers.bus.on_returned(client, returned);
    }
}

static void on_up(tp_lanclient *client, tp_peer_id self) {
    tp_backend *backend = tp_backend_of(client);
    if (backend->handlers.on_up) {
        backend->handlers.on_up(backend, self);
    }
}

static void on_down(tp_lanclient *client, tp_err why) {
    tp_backend *backend = tp_backend_of(client);
    if (backend->handlers.on_down) {
        backend->handlers.on_down(backend, why);
    }
}

const tp_lanclient_handlers tp__backend_bus_handlers = {.size = sizeof(tp_lanclient_handlers),
    .on_up = on_up,
    .on_down = on_down,
    .on_peer_up = on_peer_up,
    .on_peer_down = on_peer_down,
    .on_message = on_message,
    .on_request = on_request,
    .on_returned = on_returned};
