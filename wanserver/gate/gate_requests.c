/*
 * What services request: that a player be kicked, or be moved to another peer. lanclient's
 * on_request runs on its workers and takes the gate's mutex for the work; the answer is sent
 * without it.
 */
#include <assert.h>
#include <string.h>

#include "core/memory/memory.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* The player, or NULL if the session is not at this peer. */
static tp__gate_player *player_at_peer(tp__gate *gate, tp_session_id session, tp_peer_id peer) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = tp__gate_find(gate, session);
    bool with = player && player->assignment && player->assignment->peer->id == peer;
    return with ? player : NULL;
}

/* An answer that cannot be sent is only logged: then the service's request times out. */
static void request_answer(tp__gate *gate, const tp_delivery *from, tp_gate_status status) {
    const tp_gate_done done = {.status = (uint8_t)status};
    tp_packet *packet = tp_packet_new(TP_GATE_DONE_SIZE);
    tp_err error = TP_ERR_NO_MEMORY;
    if (packet) {
        tp_gate_write_done(tp_packet_put_space(packet, TP_GATE_DONE_SIZE), &done);
        error = tp_lanclient_reply(gate->client, from, packet, NULL);
    }
    tp_packet_release(packet);
    if (error) {
        TP_LOG(TP_LOG_WARNING, "gate: request of a service cannot be answered: %s",
            tp_err_text(error));
    }
}

/* ---- kick ------------------------------------------------------------------------------------ */

/* Closes the player and returns the quota. The assignment lasts until on_leave, so that the service
 * gets the reason of the end. */
static tp_gate_status kick_player(tp__gate *gate, tp_peer_id peer, const tp_gate_kick *asked) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = player_at_peer(gate, asked->session, peer);
    if (!player) {
        return TP_GATE_NO_PLAYER;
    }
    if (tp_server_turn_away(gate->server, asked->session, asked->close_code)) {
        gate->stats.kicked++;
        tp__gate_return_quota(gate, player);
    }
    return TP_GATE_OK;
}

/* ---- move ------------------------------------------------------------------------------------ */

/* The service of this name, in a new slot if it has none; NULL: no slot is free. Sets *why. Called
 * only for a service that has a peer on the bus, so that an unknown name takes no slot. */
static tp__gate_service *move_open_service(tp__gate *gate, const char *name, tp_gate_status *why) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_service *service = tp__gate_open_service(gate, name, strlen(name));
    *why = service ? TP_GATE_NO_TARGET : TP_GATE_FULL;
    return service;
}

/* The service of a peer on the bus; NULL: NO_TARGET or FULL. */
static tp__gate_service *move_service_of_peer(tp__gate *gate, tp_peer_id id, tp_gate_status *why) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp_peer peer = {.size = sizeof peer};
    bool there = tp_lanclient_find_peer(gate->client, id, &peer);
    return there ? move_open_service(gate, peer.service, why) : NULL;
}

/* The service of this name, if it has a slot or a peer on the bus; NULL: NO_TARGET or FULL. */
static tp__gate_service *move_service_of_name(
    tp__gate *gate, const char *bytes, size_t size, tp_gate_status *why) {
    TP_ASSERT_LOCKED(&gate->mutex);
    char name[TP_NAME_MAX + 1];
    assert(size <= TP_NAME_MAX);
    memcpy(name, bytes, size);
    name[size] = '\0';
    tp__gate_service *service = tp__gate_find_service(gate, name, size);
    if (!service && tp_lanclient_peers(gate->client, name, NULL, 0) > 0) {
        service = move_open_service(gate, name, why);
    }
    return service;
}

/* The peer that the player is to be moved to; NULL: none, and *why is NO_TARGET or FULL. */
static tp__gate_peer *move_target(
    tp__gate *gate, const tp_gate_move *asked, const tp__gate_peer *from, tp_gate_status *why) {
    TP_ASSERT_LOCKED(&gate->mutex);
    *why = TP_GATE_NO_TARGET;
    tp__gate_service *service = asked->name_size
                                    ? move_service_of_name(gate, asked->name, asked->name_size, why)
                                    : move_service_of_peer(gate, asked->peer, why);
    if (!service) {
        return NULL;
    }
    tp__gate_add_peers(gate, service);
    if (asked->peer == TP_NO_PEER) {
        return tp__gate_choose_peer(service, from);
    }
    tp__gate_peer *peer = tp__gate_find_peer(gate, asked->peer);
    bool fit = peer && peer != from && peer->service == service && !peer->incompatible;
    return fit ? peer : NULL;
}

/* Replaces the blob. False: no memory; the old one stays. */
static bool player_set_blob(tp__gate_player *player, const uint8_t *bytes, uint16_t size) {
    uint8_t *blob = size > 0 ? tp__allocate(size) : NULL;
    if (size > 0 && !blob) {
        return false;
    }
    if (blob) {
        memcpy(blob, bytes, size);
    }
    tp__free(player->blob);
    player->blob = blob;
    player->blob_size = size;
    return true;
}

/* Ends the assignment and begins one at the target; if that is not possible, the player stays. */
static tp_gate_status move_player(tp__gate *gate, tp_peer_id peer, const tp_gate_move *asked) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = player_at_peer(gate, asked->session, peer);
    if (!player) {
        return TP_GATE_NO_PLAYER;
    }
    tp_gate_status why;
    tp__gate_peer *target = move_target(gate, asked, player->assignment->peer, &why);
    if (!target) {
        return why;
    }
    if (gate->free_assignments.count == 0 ||
        !player_set_blob(player, asked->blob, asked->blob_size)) {
        return TP_GATE_FULL;
    }
    tp__gate_end_assignment(gate, player, TP_GATE_LEAVE_MOVED, TP_END_NONE);
    player->service = target->service;
    player->flags = TP_GATE_MOVED;
    bool begun = tp__gate_begin_assignment(gate, player, target);
    assert(begun); /* one is free */
    (void)begun;
    return TP_GATE_OK;
}

/* ---- the handler ----------------------------------------------------------------------------- */

void tp__gate_on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp__gate *gate = tp_lanclient_context(client);
    const uint8_t *bytes = tp_packet_bytes(packet);
    size_t size = tp_packet_size(packet);
    tp_gate_kick kicked;
    tp_gate_move moved;
    tp_gate_status status;
    tp_mutex_lock(&gate->mutex);
    if (tp_gate_read_kick(bytes, size, &kicked)) {
        status = kick_player(gate, from->peer, &kicked);
    } else if (tp_gate_read_move(bytes, size, &moved)) {
        status = move_player(gate, from->peer, &moved);
        *(status == TP_GATE_OK ? &gate->stats.moved : &gate->stats.not_moved) += 1;
    } else {
        tp_mutex_unlock(&gate->mutex);
        tp__gate_on_malformed(gate, from);
        return;
    }
    tp_mutex_unlock(&gate->mutex);
    request_answer(gate, from, status);
}
