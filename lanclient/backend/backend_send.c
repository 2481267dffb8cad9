/*
 * Messages to players, through their gates. Any thread.
 *
 * A message to many is one bus message per gate: the list of sessions first, then the payload. So
 * the gate removes the list and puts the same packet into the queues of all these players.
 */
#include <assert.h>
#include <string.h>

#include "core/memory/memory.h"
#include "lanclient/backend/backend_internal.h"

/* Sessions in one bus message: 64 KiB of them. More players of one gate need several messages. */
#define SESSIONS_MAX 8192u

/* ---- messages -------------------------------------------------------------------------------- */

/* Creates a bus message for `count` players: the header is written, sessions and payload follow. */
static tp_err backend_message_create(const tp_packet *packet, size_t count, tp_packet **message) {
    size_t size = tp_gate_send_size(count) + tp_packet_size(packet);
    if (size > TP_PACKET_MAX) {
        return TP_ERR_TOO_LARGE;
    }
    *message = tp_packet_new(size);
    if (!*message) {
        return TP_ERR_NO_MEMORY;
    }
    tp_gate_write_send(tp_packet_put_space(*message, TP_GATE_SEND_FIXED), count);
    return TP_OK;
}

/* Appends the payload to a message that has its sessions, sends it, and releases it. */
static tp_err backend_message_post(tp_backend *backend, tp_peer_id gate, tp_packet *message,
    size_t count, const tp_packet *packet) {
    tp_packet_put_bytes(message, tp_packet_bytes(packet), tp_packet_size(packet));
    tp_err error = tp_lanclient_send(backend->client, gate, message, NULL);
    tp_packet_release(message);
    if (TP_LIKELY(!error)) {
        tp__count_shared(&backend->sent, count);
        tp__count_shared(&backend->bus_messages, 1);
    }
    return error;
}

tp_err tp_backend_send(tp_backend *backend, const tp_player *player, const tp_packet *packet) {
    tp_err error = packet && player ? tp_packet_error(packet) : TP_ERR_INVALID;
    if (TP_UNLIKELY(error)) {
        return error;
    }
    if (TP_UNLIKELY(!tp__backend_has(backend, player))) {
        return TP_ERR_NO_SESSION;
    }
    tp_packet *message;
    error = backend_message_create(packet, 1, &message);
    if (TP_UNLIKELY(error)) {
        return error;
    }
    tp_packet_put_u64(message, player->session);
    return backend_message_post(backend, player->gate, message, 1, packet);
}

/* ---- to many --------------------------------------------------------------------------------- */

/* A message to many players, and its outcome so far. */
typedef struct group_send {
    const tp_player *players;
    size_t count;
    const tp_packet *packet;
    size_t reached;
    tp_err error; /* the first error */
} group_send;

static void group_note(group_send *group, tp_err error, size_t reached) {
    if (error) {
        group->error = group->error ? group->error : error;
    } else {
        group->reached += reached;
    }
}

/* The number of players from `from` on that belong to this gate, at most SESSIONS_MAX. */
static size_t group_count(const group_send *group, size_t from, tp_peer_id gate) {
    size_t count = 0;
    for (size_t i = from; i < group->count && count < SESSIONS_MAX; i++) {
        count += group->players[i].gate == gate;
    }
    return count;
}

/* Sends one message to the players of this gate, beginning at *from, which is moved behind the last
 * player included. */
static void group_send_some(tp_backend *backend, group_send *group, tp_peer_id gate, size_t *from) {
    assert(*from < group->count && gate != TP_NO_PEER);
    size_t capacity = group_count(group, *from, gate);
    tp_packet *message = NULL;
    tp_err error = capacity > 0 ? backend_message_create(group->packet, capacity, &message) : TP_OK;
    if (!message) {
        group_note(group, error, 0);
        *from = group->count;
        return;
    }
    size_t count = 0;
    size_t i = *from;
    for (; i < group->count && count < capacity; i++) {
        const tp_player *handle = &group->players[i];
        if (handle->gate == gate && tp__backend_has(backend, handle)) {
            tp_packet_put_u64(message, handle->session);
            count++;
        }
    }
    assert(i > *from); /* the caller's loop ends */
    *from = i;
    if (count == 0) {
        tp_packet_release(message);
        return;
    }
    assert(count <= capacity);
    tp_gate_write_send(tp_packet_edit(message), count); /* some may have left */
    group_note(group, backend_message_post(backend, gate, message, count, group->packet), count);
}

/*
 * Sends gate by gate, in the order in which the gates first occur. `gates` has those that are done.
 * A handle whose player has left adds none, so normally there are at most as many as a backend has
 * gates.
 */
static void group_send_by_gate(tp_backend *backend, group_send *group) {
    tp_peer_id gates[TP_BACKEND_MAX_GATES];
    size_t done = 0;
    for (size_t i = 0; i < group->count; i++) {
        tp_peer_id gate = group->players[i].gate;
        size_t n = 0;
        while (n < done && gates[n] != gate) {
            n++;
        }
        if (n < done || !tp__backend_has(backend, &group->players[i])) {
            continue;
        }
        if (done == TP_BACKEND_MAX_GATES) { /* gates joined and left meanwhile */
            group_note(group, TP_ERR_FULL, 0);
            return;
        }
        gates[done++] = gate;
        for (size_t from = i; from < group->count;) {
            group_send_some(backend, group, gate, &from);
        }
    }
}

tp_err tp_backend_send_many(tp_backend *backend, const tp_player *players, size_t count,
    const tp_packet *packet, size_t *reached) {
    group_send group = {.players = players, .count = count, .packet = packet};
    group.error = packet && (players || count == 0) ? tp_packet_error(packet) : TP_ERR_INVALID;
    if (!group.error) {
        group_send_by_gate(backend, &group);
    }
    if (reached) {
        *reached = group.reached;
    }
    return group.error;
}

/* ---- to all ---------------------------------------------------------------------------------- */

/* Sends one message to the players number `from` to `from + count - 1` of the gate's list, without
 * `except`. */
static void group_send_listed(tp_backend *backend, group_send *group, const tp__backend_gate *gate,
    uint32_t from, uint32_t count, const tp__backend_player *except) {
    TP_ASSERT_LOCKED(&backend->mutex);
    assert(count >= 1 && from + count <= gate->count && gate->peer != TP_NO_PEER);
    tp_packet *message;
    tp_err error = backend_message_create(group->packet, count, &message);
    if (error) {
        group_note(group, error, 0);
        return;
    }
    size_t listed = 0;
    for (uint32_t i = from; i < from + count; i++) {
        if (&backend->players[gate->indexes[i]] != except) {
            tp_packet_put_u64(message, gate->sessions[i]);
            listed++;
        }
    }
    if (listed == 0) {
        tp_packet_release(message);
        return;
    }
    tp_gate_write_send(tp_packet_edit(message), listed);
    group_note(
        group, backend_message_post(backend, gate->peer, message, listed, group->packet), listed);
}

/* Holds the mutex throughout. Otherwise, if a player left, the one that fills the gap in the list
 * could be missed. */
tp_err tp_backend_send_all(
    tp_backend *backend, const tp_player *except, const tp_packet *packet, size_t *reached) {
    group_send group = {.packet = packet};
    tp_err unusable = packet ? tp_packet_error(packet) : TP_ERR_INVALID;
    group.error = unusable;
    tp_mutex_lock(&backend->mutex);
    bool has_excluded = except && tp__backend_has(backend, except);
    const tp__backend_player *excluded = has_excluded ? &backend->players[except->index] : NULL;
    for (uint32_t g = 0; !unusable && g < backend->options.max_gates; g++) {
        const tp__backend_gate *gate = &backend->gates[g];
        for (uint32_t from = 0; from < gate->count; from += SESSIONS_MAX) {
            uint32_t left = gate->count - from;
            group_send_listed(
                backend, &group, gate, from, left < SESSIONS_MAX ? left : SESSIONS_MAX, excluded);
        }
    }
    tp_mutex_unlock(&backend->mutex);
    if (reached) {
        *reached = group.reached;
    }
    return group.error;
}

/* ---- kick and move --------------------------------------------------------------------------- */

/* A kick or move whose answer is outstanding. */
typedef struct gate_request {
    tp_backend *backend;
    tp_player player;
} gate_request;

static tp_err gate_status_to_error(uint8_t status) {
    switch (status) {
    case TP_GATE_OK:
        return TP_OK;
    case TP_GATE_NO_PLAYER:
        return TP_ERR_NO_SESSION;
    case TP_GATE_NO_TARGET:
        return TP_ERR_NO_ROUTE;
    case TP_GATE_FULL:
        return TP_ERR_FULL;
    default:
        return TP_ERR_PROTOCOL;
    }
}

static void gate_request_done(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    (void)client, (void)from;
    gate_request asked = *(gate_request *)context;
    tp__free(context);
    if (!error) {
        tp_gate_done done;
        bool read = tp_gate_read_done(tp_packet_bytes(packet), tp_packet_size(packet), &done);
        error = read ? gate_status_to_error(done.status) : TP_ERR_PROTOCOL;
    }
    if (error && asked.backend->handlers.on_player_stays) {
        asked.backend->handlers.on_player_stays(asked.backend, &asked.player, error);
    }
}

/* Sends a request to the player's gate. Releases `packet`, which may be NULL. */
static tp_err gate_request_send(tp_backend *backend, const tp_player *player, tp_packet *packet) {
    gate_request *asked = tp__allocate(sizeof *asked);
    tp_err error = asked && packet ? TP_OK : TP_ERR_NO_MEMORY;
    if (!error) {
        *asked = (gate_request){.backend = backend, .player = *player};
        error = tp_lanclient_request(
            backend->client, player->gate, packet, 0, gate_request_done, asked, NULL);
    }
    if (error) {
        tp__free(asked);
    }
    tp_packet_release(packet);
    return error;
}

tp_err tp_backend_kick(tp_backend *backend, const tp_player *player, unsigned close_code) {
    if (!player || close_code > UINT16_MAX) {
        return TP_ERR_INVALID;
    }
    if (!tp__backend_has(backend, player)) {
        return TP_ERR_NO_SESSION;
    }
    const tp_gate_kick kick = {.session = player->session, .close_code = (uint16_t)close_code};
    tp_packet *packet = tp_packet_new(TP_GATE_KICK_SIZE);
    if (packet) {
        tp_gate_write_kick(tp_packet_put_space(packet, TP_GATE_KICK_SIZE), &kick);
    }
    return gate_request_send(backend, player, packet);
}

tp_err tp_backend_move(tp_backend *backend, const tp_player *player, const char *service,
    tp_peer_id peer, const void *blob, size_t size) {
    size_t name_size = service ? strlen(service) : 0;
    bool named = name_size > 0 ? tp_bus_name_valid(service, name_size) : peer != TP_NO_PEER;
    if (!player || !named || size > TP_GATE_BLOB_MAX || (size > 0 && !blob)) {
        return TP_ERR_INVALID;
    }
    if (!tp__backend_has(backend, player)) {
        return TP_ERR_NO_SESSION;
    }
    const tp_gate_move move = {.session = player->session,
        .peer = peer,
        .blob_size = (uint16_t)size,
        .name_size = (uint8_t)name_size,
        .name = service,
        .blob = blob};
    tp_packet *packet = tp_packet_new(tp_gate_move_size(&move));
    if (packet) {
        tp_gate_write_move(tp_packet_put_space(packet, tp_gate_move_size(&move)), &move);
    }
    return gate_request_send(backend, player, packet);
}
