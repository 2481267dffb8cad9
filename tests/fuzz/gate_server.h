/*
 * A server in one thread, for the gate's harness: the functions that the gate calls, players that
 * connect, leave and send when the harness asks for it, and the gate's task, which tick() runs. A
 * player gets nothing but its position until it is in. Include once.
 */
#ifndef TWINPORT_TESTS_GATE_SERVER_H
#define TWINPORT_TESTS_GATE_SERVER_H

#include <string.h>

#include "fuzz.h"
#include "proto/bus.h"
#include "wanserver/gate/gate_internal.h"

enum { SESSIONS = 15 };

static tp__gate *gate;
static struct {
    tp_session_id id; /* TP_NO_SESSION: free */
    bool ending;
    bool in; /* the player has been told position 0 */
} sessions[SESSIONS];
static uint64_t last_number;
static void (*task)(void *context);
/* Number of sends to players, from the next one on, that are refused. */
static unsigned refused_sends;

void *tp_server_context(const tp_server *server) {
    (void)server;
    return gate;
}

static bool is_open(tp_session_id id) {
    uint32_t slot = tp_session_slot(id);
    return slot < SESSIONS && id != TP_NO_SESSION && sessions[slot].id == id;
}

bool tp_server_send(tp_server *server, tp_session_id id, tp_packet *packet) {
    (void)server;
    uint32_t slot = tp_session_slot(id);
    if (!is_open(id) || sessions[slot].ending || refused_sends > 0) {
        refused_sends -= refused_sends > 0;
        return false;
    }
    /* Until then only position messages of the gate may be sent to the player. */
    if (!sessions[slot].in) {
        REQUIRE(tp_packet_size(packet) == TP_GATE_PLACE_SIZE);
        uint32_t place = tp_bus_get_u32(tp_packet_bytes(packet));
        REQUIRE(place <= gate->options.max_waiting);
        sessions[slot].in = place == 0;
    }
    return true;
}

size_t tp_server_send_many(
    tp_server *server, const tp_session_id *ids, size_t count, tp_packet *packet) {
    size_t sent = 0;
    for (size_t i = 0; i < count; i++) {
        sent += tp_server_send(server, ids[i], packet);
    }
    return sent;
}

bool tp_server_disconnect_after_send(tp_server *server, tp_session_id id, unsigned close_code) {
    (void)server, (void)close_code;
    uint32_t slot = tp_session_slot(id);
    bool first = is_open(id) && !sessions[slot].ending;
    if (first) {
        sessions[slot].ending = true;
    }
    return first;
}

bool tp_server_turn_away(tp_server *server, tp_session_id id, unsigned close_code) {
    return tp_server_disconnect_after_send(server, id, close_code);
}

bool tp_server_disconnect(tp_server *server, tp_session_id id) {
    return tp_server_disconnect_after_send(server, id, 0);
}

bool tp_server_session_info(tp_server *server, tp_session_id id, tp_session_info *info) {
    (void)server;
    info->peer.port = 9;
    info->ending = is_open(id) && sessions[tp_session_slot(id)].ending;
    return is_open(id);
}

unsigned tp_server_session_count(const tp_server *server) {
    unsigned count = 0;
    (void)server;
    for (unsigned slot = 0; slot < SESSIONS; slot++) {
        count += sessions[slot].id != TP_NO_SESSION && !sessions[slot].ending;
    }
    return count;
}

tp_err tp_server_post(
    tp_server *server, unsigned delay_ms, void (*run)(void *context), void *context) {
    (void)server, (void)delay_ms;
    REQUIRE(task == NULL && context == gate);
    task = run;
    return TP_OK;
}

tp_err tp_server_start(tp_server *server) {
    (void)server;
    return TP_OK;
}
void tp_server_stop(tp_server *server) {
    (void)server;
}
tp_err tp_server_wait(tp_server *server, int timeout_ms) {
    (void)server, (void)timeout_ms;
    return TP_OK;
}

static bool identify(tp_server *server, tp_session_id session, tp_identity *who) {
    (void)server;
    who->account = session;
    return session % 2 == 0;
}

static void tick(void) {
    void (*run)(void *) = task;
    task = NULL;
    if (run) {
        run(gate);
    }
}

static void player_connects(unsigned slot) {
    if (sessions[slot].id == TP_NO_SESSION) {
        sessions[slot].id = ++last_number << 20 | slot;
        sessions[slot].ending = false;
        sessions[slot].in = gate->options.max_waiting == 0;
        tp__gate_on_join(NULL, sessions[slot].id);
    }
}

static void player_leaves(unsigned slot, tp_end_reason reason) {
    tp_session_id id = sessions[slot].id;
    if (id != TP_NO_SESSION) {
        tp__gate_on_leave(NULL, id, reason);
        sessions[slot].id = TP_NO_SESSION;
        sessions[slot].ending = false;
    }
}

static tp_packet *packet_of(const uint8_t *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    return packet;
}

static void player_sends(unsigned slot, const uint8_t *bytes, size_t size) {
    if (sessions[slot].id != TP_NO_SESSION) {
        tp_packet *packet = packet_of(bytes, size);
        tp__gate_on_recv(NULL, sessions[slot].id, packet);
        tp_packet_release(packet);
    }
}

#endif
