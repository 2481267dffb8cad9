/*
 * Whom the WAN server turns away, it counts and says: each reason by itself, at level info, with
 * the address, and however many others are said at the same time.
 */
#include "log_catch.h"
#include "wan_stage.h"
#include "wanserver/wan.h"

static wan_stage stage;

static void stage_up(tp_auth auth) {
    log_catch_open();
    wan_stage_init(&stage, auth);
}

static void stage_down(void) {
    wan_stage_close(&stage);
    log_catch_close();
}

/* The line of one connection from this machine. */
static void check_said(const char *reason, uint64_t times) {
    CHECK(log_catch_await("info", ": refused 127.0.0.1:", reason, times));
}

static tp_server_stats core_stats(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.base.server, &stats);
    return stats;
}

/* Until the server has ended it. */
static void be_refused(const void *bytes, size_t size) {
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) { /* the reset may come before the connection has been seen to stand */
        (void)raw_send(peer, bytes, size);
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, true);
    }
}

static void be_refused_as(const wan_login *login) {
    wan_peer *peer = wan_stage_connect(&stage, login);
    be_refused(peer->hello, peer->hello_size);
    wan_close(peer, true);
}

/* A token with these properties. */
static wan_login mint(const tp_token_key *key, int64_t seconds) {
    wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    REQUIRE(tp_token_mint(key, (uint64_t)((int64_t)(tp_clock_wall_ms() / 1000) + seconds),
                stage.key.public_key, &identity, login.token, login.secret) == TP_OK);
    return login;
}

/* ---- tokens and HELLOs ----------------------------------------------------------------------- */

static void what_is_wrong_with_a_token_is_said(void) {
    stage_up(TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    tp_token_key unknown = stage.ring[0];
    unknown.id = 77;
    const wan_login expired = mint(&stage.ring[0], -1);
    const wan_login no_key = mint(&unknown, 3600);
    wan_login forged = mint(&stage.ring[0], 3600);
    forged.secret[0] ^= 1;
    const wan_login good = mint(&stage.ring[1], 3600);

    be_refused_as(&expired);
    check_said("its token has expired", 1);
    be_refused_as(&no_key);
    check_said("a key that token_keys does not have", 1);
    be_refused_as(&forged);
    check_said("is forged", 1);
    tp_address address = tp_server_address(stage.base.server);
    wan_peer *player = wan_join(&address, &good);
    REQUIRE(player != NULL);
    be_refused_as(&good);
    check_said("its token has been used already", 1);
    be_refused("GET / HTTP/1.1\r\n\r\n", 18);
    check_said("no HELLO of this protocol", 1);

    const tp_wanserver_stats stats = wan_stats(&stage);
    CHECK_EQ(stats.expired, 1);
    CHECK_EQ(stats.unknown_key, 1);
    CHECK_EQ(stats.forged, 1);
    CHECK_EQ(stats.replayed, 1);
    CHECK_EQ(stats.foreign, 1);
    wan_leave(player);
    stage_down();
}

static void who_is_told_why_is_said_as_well(void) {
    stage_up(TP_AUTH_OPEN);
    stage.options.handshake_queue = 1;
    wan_stage_open(&stage);
    tp__wan *wan = tp__wan_of_server(stage.base.server);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(tp__welcome_reserve(wan)); /* one for the queue, one for the thread */
    }
    wan_peer *busy = wan_stage_connect(&stage, &login);
    CHECK(wan_send_hello(busy));
    CHECK(!wan_take_reply(busy));
    CHECK_EQ(busy->status, TP_REPLY_IS_BUSY);
    check_said("it was told busy", 1);
    wan_close(busy, false);
    for (unsigned i = 0; i < 2; i++) {
        tp__welcome_unreserve(wan);
    }

    uint8_t reply[TP_REPLY_VERSION];
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *other = raw_connect(&address);
    REQUIRE(other != NULL);
    CHECK(raw_send(other, "TPW2", 4));
    CHECK(raw_receive(other, reply, sizeof reply));
    check_said("another version", 1);
    raw_close(other, false);
    stage_down();
}

/* ---- at the door ----------------------------------------------------------------------------- */

static void who_is_turned_away_at_the_door_is_said(void) {
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    stage_up(TP_AUTH_OPEN);
    stage.options.connections_per_address = 1;
    stage.options.server.max_sessions = 1;
    wan_stage_open(&stage);
    atomic_store(&stage.base.deny, true);
    be_refused("", 0);
    check_said("on_connection_request does not want it", 1);
    atomic_store(&stage.base.deny, false);
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "in");
    be_refused("", 0);
    check_said("connections_per_address", 1);
    CHECK_EQ(wan_stats(&stage).limited, 1);
    CHECK_EQ(tp_wanserver_ban(stage.base.server, &here, 3600), TP_OK);
    be_refused("", 0);
    check_said("it is banned", 1);
    CHECK_EQ(wan_stats(&stage).banned, 1);
    CHECK_EQ(core_stats().denied, 3);
    wan_close(player, true);
    stage_down();
}

static void who_knocks_too_fast_is_said(void) {
    stage_up(TP_AUTH_OPEN);
    stage.options.accept_rate = 1;
    stage.options.accept_burst = 1;
    wan_stage_open(&stage);
    uint64_t deadline = raw_deadline();
    while (wan_stats(&stage).limited == 0 && tp_clock_ms() < deadline) {
        be_refused("no HELLO", 8);
    }
    CHECK_GE(log_caught("info", ": refused 127.0.0.1:", "has used up accept_rate"), 1);
    stage_down();
}

static void a_full_server_says_so(void) {
    stage_up(TP_AUTH_OPEN);
    stage.options.server.max_sessions = 1;
    wan_stage_open(&stage);
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "in");
    wan_peer *second = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    CHECK_EQ(wan_receive_close(second), TP_CLOSE_FULL);
    check_said("full: max_sessions are here", 1);
    CHECK_EQ(core_stats().full, 1);
    wan_close(second, false);
    wan_leave(player);
    stage_down();
}

/* ---- a flood --------------------------------------------------------------------------------- */

static const char *const reasons[] = {
#define REASON(name, counter, text) text,
    TP__REFUSALS(REASON)
#undef REASON
};

/* As many of each as are held back; none takes another's share, and none of them is lost. */
static void a_flood_of_one_reason_hides_no_other(void) {
    enum { FLOOD = 500 };
    stage_up(TP_AUTH_OPEN);
    wan_stage_open(&stage);
    tp__wan *wan = tp__wan_of_server(stage.base.server);
    tp_address peer;
    REQUIRE(tp_address_parse("192.0.2.7:4711", &peer) == TP_OK);
    for (unsigned i = 0; i < FLOOD; i++) {
        tp__wan_refuse(wan, TP__REFUSAL_FOREIGN, &peer);
    }
    for (unsigned why = 0; why < TP__REFUSAL_COUNT; why++) {
        tp__wan_refuse(wan, (tp__refusal)why, &peer);
    }
    for (unsigned why = 0; why < TP__REFUSAL_COUNT; why++) {
        unsigned times = why == TP__REFUSAL_FOREIGN ? FLOOD + 1 : 1;
        CHECK(log_catch_await("info", "wan: refused 192.0.2.7:4711: ", reasons[why], times));
    }
    CHECK_GE(log_caught("info", "held back: ", reasons[TP__REFUSAL_FOREIGN]), 1);
    const tp_wanserver_stats stats = wan_stats(&stage);
    CHECK_EQ(stats.foreign, FLOOD + 1);
    CHECK_EQ(stats.limited, 3);
    CHECK_EQ(stats.banned + stats.evicted + stats.crowded + stats.late + stats.other_version +
                 stats.expired + stats.long_lived + stats.unknown_key + stats.forged +
                 stats.replayed + stats.replay_full + stats.busy + stats.not_authentic +
                 stats.not_ready,
        14);
    stage_down();
}

CHECK_MAIN(CASE(what_is_wrong_with_a_token_is_said), CASE(who_is_told_why_is_said_as_well),
    CASE(who_is_turned_away_at_the_door_is_said), CASE(who_knocks_too_fast_is_said),
    CASE(a_full_server_says_so), CASE(a_flood_of_one_reason_hides_no_other))
