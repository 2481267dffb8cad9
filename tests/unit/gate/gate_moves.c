/*
 * Players that a service moves to another service or peer, in one process: with and without a blob,
 * without a target, and with more services than a gate may know.
 */
#include "gate_fixture.h"

static gate_fixture fixture;
static service arena, second, other;
static player players[16];

static void a_player_moves_to_another_service_and_back(void) {
    fixture_open_arena(&fixture, &arena);
    service_join(&other, fixture.hub, "other");
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.last;
    uint8_t blob[TP_PLAYER_BLOB_MAX];
    memset(blob, 0x5a, sizeof blob);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, blob, sizeof blob + 1),
        TP_ERR_INVALID);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, blob, sizeof blob), TP_OK);
    AWAIT(arena.leaves == 1 && other.joins == 1);
    CHECK_EQ(arena.why, TP_LEAVE_MOVED);
    CHECK_EQ(arena.end, TP_END_NONE);
    CHECK_EQ(other.info.flags, TP_PLAYER_MOVED | TP_PLAYER_IDENTIFIED);
    CHECK_EQ(other.info.blob_size, sizeof blob);
    CHECK_MEM(other.blob, blob, sizeof blob);
    CHECK_EQ(other.info.player.session, name.session);
    CHECK(player_send(&fixture, &players[0], "here"));
    AWAIT(other.messages == 1);
    CHECK_EQ(service_send(&other, &other.last, "there"), TP_OK);
    AWAIT(players[0].messages == 1);
    CHECK_STR(players[0].text, "there");
    CHECK_EQ(service_send(&arena, &name, "no more"), TP_ERR_NO_SESSION);

    /* Back, to a peer by its id, without a blob. */
    name = other.last;
    CHECK_EQ(tp_backend_move(other.backend, &name, NULL, service_peer(&arena), NULL, 0), TP_OK);
    AWAIT(arena.joins == 2 && other.leaves == 1);
    CHECK_EQ(arena.info.blob_size, 0);
    CHECK(player_send(&fixture, &players[0], "back"));
    AWAIT(arena.messages == 1);
    player_quit(&fixture, &players[0]);
    AWAIT(arena.leaves == 2);
    CHECK_EQ(other.stays + arena.stays, 0);
    CHECK_EQ(fixture_stats(&fixture).moved, 2);
    fixture_close_arena(&fixture, &arena);
    service_kill(&other);
}

static void a_player_moves_to_another_peer_of_its_service(void) {
    fixture_open_arena(&fixture, &arena);
    players_join(&fixture, &arena, &players[0], 1);
    service_join(&second, fixture.hub, "arena");
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "arena", TP_NO_PEER, "x", 1), TP_OK);
    AWAIT(arena.leaves == 1 && second.joins == 1);
    CHECK_EQ(second.info.blob_size, 1);
    fixture_close_arena(&fixture, &arena);
    service_kill(&second);
}

static void await_stays(unsigned count, tp_err why) {
    AWAIT(arena.stays == count);
    CHECK_EQ(arena.stays_because, why);
}

static void a_move_without_a_target_is_refused(void) {
    fixture_open_arena(&fixture, &arena);
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "nowhere", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(1, TP_ERR_NO_ROUTE);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "arena", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(2, TP_ERR_NO_ROUTE); /* the player is with the only peer already */
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, service_peer(&arena), NULL, 0), TP_OK);
    await_stays(3, TP_ERR_NO_ROUTE);
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, name.gate + 77, NULL, 0), TP_OK);
    await_stays(4, TP_ERR_NO_ROUTE);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", service_peer(&arena), NULL, 0), TP_OK);
    await_stays(5, TP_ERR_NO_ROUTE); /* that peer belongs to another service */
    CHECK_EQ(
        tp_backend_move(arena.backend, &name, "NOT A NAME", TP_NO_PEER, NULL, 0), TP_ERR_INVALID);
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, TP_NO_PEER, NULL, 0), TP_ERR_INVALID);
    CHECK(player_send(&fixture, &players[0], "still here"));
    AWAIT(arena.messages == 1);
    CHECK_EQ(fixture_stats(&fixture).not_moved, 5);
    CHECK_EQ(fixture_stats(&fixture).services, 1);
    fixture_close_arena(&fixture, &arena);
}

static void the_number_of_services_is_bounded(void) {
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_services = 1;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    service_join(&other, fixture.hub, "other");
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(1, TP_ERR_FULL);
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, service_peer(&other), NULL, 0), TP_OK);
    await_stays(2, TP_ERR_FULL);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "nowhere", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(3, TP_ERR_NO_ROUTE); /* unknown, and not refused for the limit */
    fixture_close_arena(&fixture, &arena);
    service_kill(&other);
}

/* Services with a new name each time, as for matches: the slots of services that are gone are
 * reused. */
static void slots_of_services_that_are_gone_are_reused(void) {
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_services = 2;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    players_join(&fixture, &arena, &players[0], 2);
    for (unsigned i = 0; i < 3; i++) {
        char name[] = {'m', 'a', 't', 'c', 'h', '-', (char)('0' + i), '\0'};
        service_join(&other, fixture.hub, name);
        AWAIT(tp_lanclient_peers(tp__gate_client(fixture.gate), name, NULL, 0) == 1);
        unsigned joins = arena.joins;
        tp_player whom = arena.last;
        CHECK_EQ(tp_backend_move(arena.backend, &whom, name, TP_NO_PEER, NULL, 0), TP_OK);
        AWAIT(other.joins == 1 || arena.stays > 0);
        REQUIRE(arena.stays == 0);
        whom = other.last;
        CHECK_EQ(tp_backend_move(other.backend, &whom, "arena", TP_NO_PEER, NULL, 0), TP_OK);
        AWAIT(arena.joins == joins + 1 && other.leaves == 1);
        service_leave(&other);
        AWAIT(fixture_stats(&fixture).peers == 1);
    }
    CHECK(player_send(&fixture, &players[0], "still here"));
    CHECK(player_send(&fixture, &players[1], "still here"));
    AWAIT(arena.messages == 2);
    CHECK_EQ(fixture_stats(&fixture).services, 2);
    CHECK_EQ(fixture_stats(&fixture).moved, 6);
    fixture_close_arena(&fixture, &arena);
}

/* The hub carries the MOVE with its blob, but not the JOIN, whose head is larger. Players behind it
 * in the gate's queue must be served. */
static void a_join_that_is_too_large_delays_no_other_player(void) {
    static const uint8_t blob[950] = {1};
    tp__hub_options options;
    fixture_open();
    hub_options(&options);
    options.server.max_frame = 1024;
    fixture_init(&fixture, hub_open(&options));
    fixture.options.lost_close = 402;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    service_join(&other, fixture.hub, "other");
    players_join(&fixture, &arena, &players[0], 1);
    tp_player first = arena.last;
    players_join(&fixture, &arena, &players[1], 1);
    tp_player next = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &first, "other", TP_NO_PEER, blob, sizeof blob), TP_OK);
    CHECK_EQ(tp_backend_move(arena.backend, &next, "other", TP_NO_PEER, "x", 1), TP_OK);
    AWAIT(other.joins == 1);
    CHECK_EQ(other.last.session, next.session);
    AWAIT(players[0].left);
    CHECK_EQ(players[0].close_code, 402);
    AWAIT(arena.leaves == 2);
    CHECK_EQ(other.joins, 1);
    fixture_close_arena(&fixture, &arena);
    service_kill(&other);
}

CHECK_MAIN(CASE(a_player_moves_to_another_service_and_back),
    CASE(a_player_moves_to_another_peer_of_its_service), CASE(a_move_without_a_target_is_refused),
    CASE(the_number_of_services_is_bounded), CASE(slots_of_services_that_are_gone_are_reused),
    CASE(a_join_that_is_too_large_delays_no_other_player))
