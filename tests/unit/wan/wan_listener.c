/*
 * Connections at the listener: which are refused there, by the limit of their address, the handler,
 * the rate and the bans; and bans of players that are connected already.
 */
#include "wan_fixture.h"

static wan_fixture fixture;

static void connections_per_address_are_limited(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.connections_per_address = 2;
    wan_fixture_open(&fixture);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    raw_peer *silent = fixture_connect_peer(&fixture.base);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    wan_fixture_be_refused(&fixture);
    FIXTURE_WAIT(wan_stats(&fixture).limited == 1);
    CHECK_EQ(wan_core_stats(&fixture).denied, 1);
    raw_close(silent, false);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    wan_peer *second = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(second, "x");
    wan_leave(second);
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* The handler is asked last, and a connection that it refuses frees its place in the limit. */
static void the_handler_is_asked_last(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.connections_per_address = 1;
    atomic_store(&fixture.base.deny, true);
    wan_fixture_open(&fixture);
    for (unsigned i = 0; i < 3; i++) {
        wan_fixture_be_refused(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.base.requests) == i + 1);
    }
    atomic_store(&fixture.base.deny, false);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    CHECK_EQ(atomic_load(&fixture.base.requests), 4);
    wan_fixture_be_refused(&fixture);
    FIXTURE_WAIT(wan_stats(&fixture).limited == 1);
    CHECK_EQ(atomic_load(&fixture.base.requests), 4); /* the limits were checked before */
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* One connection a second is earned, so a slow machine needs more tries than the burst. */
static void connections_are_limited_by_rate(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.accept_rate = 1;
    fixture.options.accept_burst = 3;
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
    uint64_t deadline = raw_deadline();
    while (wan_stats(&fixture).limited == 0 && tp_clock_ms() < deadline) {
        raw_peer *peer = raw_connect(&address);
        if (peer) {
            raw_close(peer, true);
        }
    }
    CHECK_GE(wan_stats(&fixture).limited, 1);
    CHECK_GE(wan_core_stats(&fixture).accepted, 4);
    wan_fixture_close(&fixture);
}

static void a_ban_ends_present_and_refuses_new_connections(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_network here, elsewhere;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    REQUIRE(tp_network_parse("10.0.0.0/8", &elsewhere) == TP_OK);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    raw_peer *silent = fixture_connect_peer(&fixture.base);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);

    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &elsewhere, 3600), TP_OK);
    wan_check_echo(player, "not me");
    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, 3600), TP_OK);
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    CHECK_NE(raw_end(silent), TP_ERR_TIMED_OUT);
    wan_close(player, false);
    raw_close(silent, false);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_KICKED);
    CHECK_EQ(wan_stats(&fixture).banned, 1); /* the silent one */
    wan_fixture_be_refused(&fixture);
    FIXTURE_WAIT(wan_stats(&fixture).banned == 2);

    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, UINT64_MAX), TP_ERR_INVALID);
    CHECK(tp_wanserver_lift_ban(fixture.base.server, &here));
    CHECK(!tp_wanserver_lift_ban(fixture.base.server, &here));
    player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(player, "back");
    wan_leave(player);
    wan_fixture_close(&fixture);
}

static void bans_are_set_as_a_whole(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_ban bans[] = {{.seconds = 3600}, {.seconds = 0}};
    REQUIRE(tp_network_parse("10.0.0.0/8", &bans[0].network) == TP_OK);
    REQUIRE(tp_network_parse("127.0.0.0/8", &bans[1].network) == TP_OK);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    tp_server *server = fixture.base.server;

    bans[0].seconds = UINT64_MAX;
    CHECK_EQ(tp_wanserver_set_bans(server, bans, 2), TP_ERR_INVALID);
    bans[0].seconds = 3600;
    CHECK_EQ(tp_wanserver_set_bans(server, NULL, 1), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_set_bans(server, bans, TP_WANSERVER_MAX_BANS + 1), TP_ERR_FULL);
    CHECK_EQ(tp_wanserver_set_bans(server, bans, 1), TP_OK);
    wan_check_echo(player, "not me");
    CHECK_EQ(tp_wanserver_set_bans(server, bans, 2), TP_OK);
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    wan_close(player, false);
    wan_fixture_be_refused(&fixture);
    CHECK_EQ(tp_wanserver_set_bans(server, NULL, 0), TP_OK);
    CHECK(!tp_wanserver_lift_ban(server, &bans[0].network));
    player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* A connection whose deadline passed a moment before it joins is ended by a ban, too. */
static void a_ban_ends_a_joining_connection(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *player = wan_fixture_connect(&fixture, &login);
    CHECK(wan_send_hello(player));
    REQUIRE(wan_take_reply(player));
    uint32_t slot = tp_session_slot(player->terms.session);
    atomic_store(&fixture.base.server->sessions[slot].finish_by_ms, 0);
    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, 3600), TP_OK);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    wan_close(player, false);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(connections_per_address_are_limited), CASE(the_handler_is_asked_last),
    CASE(connections_are_limited_by_rate), CASE(a_ban_ends_present_and_refuses_new_connections),
    CASE(bans_are_set_as_a_whole), CASE(a_ban_ends_a_joining_connection))
