/*
 * What goes to players, by way of their gates. Any thread.
 *
 * A message to many is one bus message for each gate: the sessions first, then what they are told,
 * so that the gate need only take the front off and put the same packet into all their queues.
 */
#include <string.h>

#include "core/memory/memory.h"
#include "lanclient/backend/backend_internal.h"

/* Sessions in one bus message: 64 KiB of them. More players of one gate take several. */
#define SESSIONS_MAX 8192u

/* ---- messages -------------------------------------------------------------------------------- */

/* A packet for what is told to `count` players, their sessions to be put first. */
static tp_err make_message(const tp_packet *packet, size_t count, tp_packet **message) {
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

/* The sessions are in it; releases it. */
static tp_err post_message(tp_backend *backend, tp_peer_id gate, tp_packet *message, size_t count,
    const tp_packet *packet) {
    tp_packet_put_bytes(message, tp_packet_bytes(packet), tp_packet_size(packet));
    tp_err error = tp_lanclient_send(backend->client, gate, message, NULL);
    tp_packet_release(message);
    if (TP_LIKELY(!error)) {
        tp__backend_count(&backend->sent, count);
        tp__backend_count(&backend->bus_messages, 1);
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
    error = make_message(packet, 1, &message);
    if (TP_UNLIKELY(error)) {
        return error;
    }
    tp_packet_put_u64(message, player->session);
    return post_message(backend, player->gate, message, 1, packet);
}

/* ---- to many --------------------------------------------------------------------------------- */

/* The part of the players that is still to be told, and what comes of it. */
typedef struct crowd {
    const tp_player *players;
    size_t count;
    const tp_packet *packet;
    size_t reached;
    tp_err error; /* the first one */
} crowd;

static void note(crowd *told, tp_err error, size_t reached) {
    if (error) {
        told->error = told->error ? told->error : error;
    } else {
        told->reached += reached;
    }
}

/* How many players from `from` on are of this gate, counted up to one message's worth. */
static size_t count_of(const crowd *told, size_t from, tp_peer_id gate) {
    size_t count = 0;
    for (size_t i = from; i < told->count && count < SESSIONS_MAX; i++) {
        count += told->players[i].gate == gate;
    }
    return count;
}

/* One message, to the players of this gate from *from on, which moves behind the last one told. */
static void tell_some(tp_backend *backend, crowd *told, tp_peer_id gate, size_t *from) {
    size_t room = count_of(told, *from, gate);
    tp_packet *message = NULL;
    tp_err error = room > 0 ? make_message(told->packet, room, &message) : TP_OK;
    if (!message) {
        note(told, error, 0);
        *from = told->count;
        return;
    }
    size_t count = 0;
    size_t i = *from;
    for (; i < told->count && count < room; i++) {
        const tp_player *player = &told->players[i];
        if (player->gate == gate && tp__backend_has(backend, player)) {
            tp_packet_put_u64(message, player->session);
            count++;
        }
    }
    *from = i;
    if (count == 0) {
        tp_packet_release(message);
        return;
    }
    tp_gate_write_send(tp_packet_edit(message), count); /* some may be gone */
    note(told, post_message(backend, gate, message, count, told->packet), count);
}

/*
 * Gate by gate, in the order in which they are first named. `gates` holds those that are done: a
 * name whose player is gone opens none, so there are no more of them than a backend has gates.
 */
static void tell(tp_backend *backend, crowd *told) {
    tp_peer_id gates[TP_BACKEND_MAX_GATES];
    size_t done = 0;
    for (size_t i = 0; i < told->count; i++) {
        tp_peer_id gate = told->players[i].gate;
        size_t n = 0;
        while (n < done && gates[n] != gate) {
            n++;
        }
        if (n < done || !tp__backend_has(backend, &told->players[i])) {
            continue;
        }
        if (done == TP_BACKEND_MAX_GATES) { /* others came and went meanwhile */
            note(told, TP_ERR_FULL, 0);
            return;
        }
        gates[done++] = gate;
        for (size_t from = i; from < told->count;) {
            tell_some(backend, told, gate, &from);
        }
    }
}

tp_err tp_backend_send_many(tp_backend *backend, const tp_player *players, size_t count,
    const tp_packet *packet, size_t *reached) {
    crowd told = {.players = players, .count = count, .packet = packet};
    told.error = packet && (players || count == 0) ? tp_packet_error(packet) : TP_ERR_INVALID;
    if (!told.error) {
        tell(backend, &told);
    }
    if (reached) {
        *reached = told.reached;
    }
    return told.error;
}

/* ---- to all ---------------------------------------------------------------------------------- */

/* The gate's players number `from` to `from + count - 1`, without `except`. Under the mutex. */
static void tell_listed(tp_backend *backend, crowd *told, const tp__backend_gate *gate,
    uint32_t from, uint32_t count, const tp__backend_player *except) {
    tp_packet *message;
    tp_err error = make_message(told->packet, count, &message);
    if (error) {
        note(told, error, 0);
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
    note(told, post_message(backend, gate->peer, message, listed, told->packet), listed);
}

/* The mutex is held throughout: otherwise one who goes would let another one, who takes his place
 * in the list, be passed over. */
tp_err tp_backend_send_all(
    tp_backend *backend, const tp_player *except, const tp_packet *packet, size_t *reached) {
    crowd told = {.packet = packet};
    told.error = packet ? tp_packet_error(packet) : TP_ERR_INVALID;
    tp_mutex_lock(&backend->mutex);
    bool spare = except && tp__backend_has(backend, except);
    const tp__backend_player *spared = spare ? &backend->players[except->index] : NULL;
    for (uint32_t g = 0; !told.error && g < backend->options.max_gates; g++) {
        const tp__backend_gate *gate = &backend->gates[g];
        for (uint32_t from = 0; from < gate->count; from += SESSIONS_MAX) {
            uint32_t left = gate->count - from;
            tell_listed(
                backend, &told, gate, from, left < SESSIONS_MAX ? left : SESSIONS_MAX, spared);
        }
    }
    tp_mutex_unlock(&backend->mutex);
    if (reached) {
        *reached = told.reached;
    }
    return told.error;
}

/* ---- kick and move --------------------------------------------------------------------------- */

/* Whom a request is about, until it is answered. */
typedef struct errand {
    tp_backend *backend;
    tp_player player;
} errand;

static tp_err error_of(uint8_t status) {
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

static void on_done(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    (void)client, (void)from;
    errand asked = *(errand *)context;
    tp__free(context);
    if (!error) {
        tp_gate_done done;
        bool read = tp_gate_read_done(tp_packet_bytes(packet), tp_packet_size(packet), &done);
        error = read ? error_of(done.status) : TP_ERR_PROTOCOL;
    }
    if (error && asked.backend->handlers.on_player_stays) {
        asked.backend->handlers.on_player_stays(asked.backend, &asked.player, error);
    }
}

/* Asks the player's gate; releases `packet`, which may be NULL. */
static tp_err ask_gate(tp_backend *backend, const tp_player *player, tp_packet *packet) {
    errand *asked = tp__allocate(sizeof *asked);
    tp_err error = asked && packet ? TP_OK : TP_ERR_NO_MEMORY;
    if (!error) {
        *asked = (errand){.backend = backend, .player = *player};
        error =
            tp_lanclient_request(backend->client, player->gate, packet, 0, on_done, asked, NULL);
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
    return ask_gate(backend, player, packet);
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
    return ask_gate(backend, player, packet);
}
