/*
 * What services ask for: that a player be ended, or be given to another peer. On lanclient's
 * worker.
 */
#include <string.h>

#include "core/memory/memory.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* The player, if he is with this peer. Under the mutex. */
static tp__gate_player *player_of(tp__gate *gate, tp_session_id session, tp_peer_id peer) {
    tp__gate_player *player = tp__gate_find(gate, session);
    bool with = player && player->visit && player->visit->peer->id == peer;
    return with ? player : NULL;
}

/* If it cannot leave now, the service's request times out. */
static void answer(tp__gate *gate, const tp_delivery *from, tp_gate_status status) {
    const tp_gate_done done = {.status = (uint8_t)status};
    tp_packet *packet = tp_packet_new(TP_GATE_DONE_SIZE);
    tp_err error = TP_ERR_NO_MEMORY;
    if (packet) {
        tp_gate_write_done(tp_packet_put_space(packet, TP_GATE_DONE_SIZE), &done);
        error = tp_lanclient_reply(gate->client, from, packet, NULL);
    }
    tp_packet_release(packet);
    if (error) {
        TP_LOG(
            TP_LOG_WARNING, "gate: a service's request cannot be answered: %s", tp_err_text(error));
    }
}

/* ---- kick ------------------------------------------------------------------------------------ */

/* His place is free. His visit goes on until on_leave: the service learns why he went. */
static tp_gate_status kick(tp__gate *gate, tp_peer_id peer, const tp_gate_kick *asked) {
    tp__gate_player *player = player_of(gate, asked->session, peer);
    if (!player) {
        return TP_GATE_NO_PLAYER;
    }
    if (tp_server_turn_away(gate->server, asked->session, asked->close_code)) {
        gate->account.kicked++;
        tp__gate_give_place(gate, player);
    }
    return TP_GATE_OK;
}

/* ---- move ------------------------------------------------------------------------------------ */

/* Only what is there is opened: a name that nobody has takes no place among the services. */
static tp__gate_service *open_service(tp__gate *gate, const char *name, tp_gate_status *why) {
    tp__gate_service *service = tp__gate_open_service(gate, name, strlen(name));
    *why = service ? TP_GATE_NO_TARGET : TP_GATE_FULL;
    return service;
}

/* The service of a peer that the gate has not looked at yet. */
static tp__gate_service *service_of_peer(tp__gate *gate, tp_peer_id id, tp_gate_status *why) {
    tp_peer peer = {.size = sizeof peer};
    bool there = tp_lanclient_find_peer(gate->client, id, &peer);
    return there ? open_service(gate, peer.service, why) : NULL;
}

static tp__gate_service *service_of_name(
    tp__gate *gate, const char *bytes, size_t size, tp_gate_status *why) {
    char name[TP_NAME_MAX + 1];
    memcpy(name, bytes, size);
    name[size] = '\0';
    tp__gate_service *service = tp__gate_find_service(gate, name, size);
    if (!service && tp_lanclient_peers(gate->client, name, NULL, 0) > 0) {
        service = open_service(gate, name, why);
    }
    return service;
}

/* Where he is to go, or NULL and why not. */
static tp__gate_peer *target_of(
    tp__gate *gate, const tp_gate_move *asked, const tp__gate_peer *from, tp_gate_status *why) {
    *why = TP_GATE_NO_TARGET;
    tp__gate_service *service = asked->name_size
                                    ? service_of_name(gate, asked->name, asked->name_size, why)
                                    : service_of_peer(gate, asked->peer, why);
    if (!service) {
        return NULL;
    }
    tp__gate_gather_peers(gate, service);
    if (asked->peer == TP_NO_PEER) {
        return tp__gate_choose_peer(service, from);
    }
    tp__gate_peer *peer = tp__gate_find_peer(gate, asked->peer);
    bool fit = peer && peer != from && peer->service == service && !peer->deaf;
    return fit ? peer : NULL;
}

/* False: memory is out, and he keeps the one he has. */
static bool set_blob(tp__gate_player *player, const uint8_t *bytes, uint16_t size) {
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

static tp_gate_status move(tp__gate *gate, tp_peer_id peer, const tp_gate_move *asked) {
    tp__gate_player *player = player_of(gate, asked->session, peer);
    if (!player) {
        return TP_GATE_NO_PLAYER;
    }
    tp_gate_status why;
    tp__gate_peer *target = target_of(gate, asked, player->visit->peer, &why);
    if (!target) {
        return why;
    }
    if (!gate->free_visit || !set_blob(player, asked->blob, asked->blob_size)) {
        return TP_GATE_FULL;
    }
    tp__gate_end_visit(gate, player, TP_GATE_LEAVE_MOVED, TP_END_NONE);
    player->service = target->service;
    player->flags = TP_GATE_MOVED;
    (void)tp__gate_begin_visit(gate, player, target); /* a visit is free */
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
        status = kick(gate, from->peer, &kicked);
    } else if (tp_gate_read_move(bytes, size, &moved)) {
        status = move(gate, from->peer, &moved);
        *(status == TP_GATE_OK ? &gate->account.moved : &gate->account.not_moved) += 1;
    } else {
        tp_mutex_unlock(&gate->mutex);
        tp__gate_on_malformed(gate, from);
        return;
    }
    tp_mutex_unlock(&gate->mutex);
    answer(gate, from, status);
}
