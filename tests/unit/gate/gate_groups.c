/*
 * Sends to all players of a service that several gates have: a message that one gate's share makes
 * too large does not keep the other gates' players from theirs.
 */
#include "gate_fixture.h"

enum { CROWD = 40, MAX_FRAME = 1 << 20 };

static gate_fixture crowded;
static gate_fixture quiet;
static service arena;
static player players[CROWD + 1];

static void open_all(void) {
    memset(players, 0, sizeof players);
    fixture_init(&crowded, hub_open_default());
    fixture_start(&crowded);
    fixture_init(&quiet, crowded.hub);
    fixture_start(&quiet);
    service_init(&arena, crowded.hub, "arena");
    service_start(&arena);
    AWAIT(fixture_stats(&crowded).peers == 1 && fixture_stats(&quiet).peers == 1);
    for (unsigned i = 0; i < CROWD; i++) {
        player_join(&crowded, &players[i]);
        AWAIT(arena.joins == i + 1);
    }
    player_join(&quiet, &players[CROWD]);
    AWAIT(arena.joins == CROWD + 1);
}

static void close_all(void) {
    tp__hub *hub = crowded.hub;
    fixture_close(&quiet);
    fixture_close(&crowded);
    service_leave(&arena);
    hub_close(hub);
}

static tp_packet *packet_of(size_t size) {
    tp_packet *packet = tp_packet_new(size);
    REQUIRE(packet != NULL);
    memset(tp_packet_put_space(packet, size), 'x', size);
    return packet;
}

/* The largest payload that reaches one player: it reaches no more in one message. */
static size_t send_largest(const tp_player *to) {
    for (size_t size = MAX_FRAME; size > 0; size--) {
        tp_packet *packet = packet_of(size);
        tp_err error = tp_backend_send(arena.backend, to, packet);
        tp_packet_release(packet);
        if (!error) {
            return size;
        }
        REQUIRE(error == TP_ERR_TOO_LARGE);
    }
    return 0;
}

static void a_gate_whose_message_is_too_large_does_not_stop_the_others(void) {
    open_all();
    tp_player alone = arena.last; /* at the gate that joined the backend last */
    size_t size = send_largest(&alone);
    AWAIT(players[CROWD].messages == 1);
    size_t reached = 99;
    tp_packet *packet = packet_of(size);
    CHECK_EQ(tp_backend_send_all(arena.backend, NULL, packet, &reached), TP_ERR_TOO_LARGE);
    tp_packet_release(packet);
    CHECK_EQ(reached, 1);
    AWAIT(players[CROWD].messages == 2);
    CHECK_EQ(players[0].messages, 0);
    close_all();
}

CHECK_MAIN(CASE(a_gate_whose_message_is_too_large_does_not_stop_the_others))
