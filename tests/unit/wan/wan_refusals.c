/*
 * What the WAN server counts and logs when it refuses a connection: each reason by itself, at level
 * info, with the address, however many others are logged at the same time.
 */
#include "log_catch.h"
#include "wan_fixture.h"
#include "wanserver/wan.h"

static wan_fixture fixture;

static void fixture_up(tp_auth auth) {
    log_catch_open();
    wan_fixture_init(&fixture, auth);
}

static void fixture_down(void) {
    wan_fixture_close(&fixture);
    log_catch_close();
}

/* The log line of one connection from this machine. */
static void check_logged(const char *reason, uint64_t times) {
    CHECK(log_catch_await("info", ": refused 127.0.0.1:", reason, times));
}

/* Waits until the server has ended the connection. */
static void send_and_be_refused(const void *bytes, size_t size) {
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) { /* the reset may come before the connection is established */
        (void)raw_send(peer, bytes, size);
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, true);
    }
}

static void be_refused_as(const wan_login *login) {
    wan_peer *peer = wan_fixture_connect(&fixture, login);
    send_and_be_refused(peer->hello, peer->hello_size);
    wan_close(peer, true);
}

/* A token with these properties. */
static wan_login mint(const tp_token_key *key, int64_t seconds) {
    wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    REQUIRE(tp_token_mint(key, (uint64_t)((int64_t)(tp_clock_wall_ms() / 1000) + seconds),
                fixture.key.public_key, &identity, login.token, login.secret) == TP_OK);
    return login;
}

/* ---- tokens and HELLOs ----------------------------------------------------------------------- */

static void bad_tokens_are_logged_with_their_reason(void) {
    fixture_up(TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    tp_token_key unknown = fixture.ring[0];
    unknown.id = 77;
    const wan_login expired = mint(&fixture.ring[0], -1);
    const wan_login no_key = mint(&unknown, 3600);
    wan_login forged = mint(&fixture.ring[0], 3600);
    forged.secret[0] ^= 1;
    const wan_login good = mint(&fixture.ring[1], 3600);

    be_refused_as(&expired);
    check_logged("token has expired", 1);
    be_refused_as(&no_key);
    check_logged("token key is not in token_keys", 1);
    be_refused_as(&forged);
    check_logged("is forged", 1);
    tp_address address = tp_server_address(fixture.base.server);
    wan_peer *player = wan_join(&address, &good);
    REQUIRE(player != NULL);
    be_refused_as(&good);
    check_logged("token has been used already", 1);
    send_and_be_refused("GET / HTTP/1.1\r\n\r\n", 18);
    check_logged("not a HELLO of this protocol", 1);

    const tp_wanserver_stats stats = wan_stats(&fixture);
    CHECK_EQ(stats.expired, 1);
    CHECK_EQ(stats.unknown_key, 1);
    CHECK_EQ(stats.forged, 1);
    CHECK_EQ(stats.replayed, 1);
    CHECK_EQ(stats.foreign, 1);
    wan_leave(player);
    fixture_down();
}

static void answered_refusals_are_logged_too(void) {
    fixture_up(TP_AUTH_OPEN);
    fixture.options.handshake_queue = 1;
    wan_fixture_open(&fixture);
    tp__wan *wan = tp__wan_of_server(fixture.base.server);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(tp__handshake_job_reserve(wan)); /* one for the queue, one for the thread */
    }
    wan_peer *busy = wan_fixture_connect(&fixture, &login);
    CHECK(wan_send_hello(busy));
    CHECK(!wan_take_reply(busy));
    CHECK_EQ(busy->status, TP_REPLY_IS_BUSY);
    check_logged("answered busy", 1);
    wan_close(busy, false);
    for (unsigned i = 0; i < 2; i++) {
        tp__handshake_job_unreserve(wan);
    }

    uint8_t reply[TP_REPLY_VERSION];
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *other = raw_connect(&address);
    REQUIRE(other != NULL);
    CHECK(raw_send(other, "TPW2", 4));
    CHECK(raw_receive(other, reply, sizeof reply));
    check_logged("other protocol version", 1);
    raw_close(other, false);
    fixture_down();
}

/* ---- at the listener ------------------------------------------------------------------------- */

static void refusals_at_the_listener_are_logged(void) {
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    fixture_up(TP_AUTH_OPEN);
    fixture.options.connections_per_address = 1;
    fixture.options.server.max_sessions = 1;
    wan_fixture_open(&fixture);
    atomic_store(&fixture.base.deny, true);
    send_and_be_refused("", 0);
    check_logged("rejected by on_connection_request", 1);
    atomic_store(&fixture.base.deny, false);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "in");
    send_and_be_refused("", 0);
    check_logged("connections_per_address", 1);
    CHECK_EQ(wan_stats(&fixture).limited, 1);
    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, 3600), TP_OK);
    send_and_be_refused("", 0);
    check_logged("address is banned", 1);
    CHECK_EQ(wan_stats(&fixture).banned, 1);
    CHECK_EQ(wan_core_stats(&fixture).denied, 3);
    wan_close(player, true);
    fixture_down();
}

static void a_limited_address_is_logged(void) {
    fixture_up(TP_AUTH_OPEN);
    fixture.options.accept_rate = 1;
    fixture.options.accept_burst = 1;
    wan_fixture_open(&fixture);
    uint64_t deadline = raw_deadline();
    while (wan_stats(&fixture).limited == 0 && tp_clock_ms() < deadline) {
        send_and_be_refused("no HELLO", 8);
    }
    CHECK_GE(log_caught("info", ": refused 127.0.0.1:", "exceeds accept_rate"), 1);
    fixture_down();
}

static void a_full_server_is_logged(void) {
    fixture_up(TP_AUTH_OPEN);
    fixture.options.server.max_sessions = 1;
    wan_fixture_open(&fixture);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "in");
    wan_peer *second = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    CHECK_EQ(wan_receive_close(second), TP_CLOSE_FULL);
    check_logged("full: max_sessions reached", 1);
    CHECK_EQ(wan_core_stats(&fixture).full, 1);
    wan_close(second, false);
    wan_leave(player);
    fixture_down();
}

/* ---- a flood --------------------------------------------------------------------------------- */

static const char *const reasons[] = {
#define REASON(name, counter, text) text,
    TP__REFUSALS(REASON)
#undef REASON
};

/* As many of each reason as are held back; none takes another's share, and none is lost. */
static void a_flood_of_one_reason_hides_no_other(void) {
    enum { FLOOD = 500 };
    fixture_up(TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp__wan *wan = tp__wan_of_server(fixture.base.server);
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
    CHECK_GE(log_caught("info", "suppressed in one second: ", reasons[TP__REFUSAL_FOREIGN]), 1);
    const tp_wanserver_stats stats = wan_stats(&fixture);
    CHECK_EQ(stats.foreign, FLOOD + 1);
    CHECK_EQ(stats.limited, 3);
    CHECK_EQ(stats.banned + stats.evicted + stats.crowded + stats.late + stats.other_version +
                 stats.expired + stats.long_lived + stats.unknown_key + stats.forged +
                 stats.replayed + stats.replay_full + stats.busy + stats.not_authentic +
                 stats.not_ready,
        14);
    fixture_down();
}

CHECK_MAIN(CASE(bad_tokens_are_logged_with_their_reason), CASE(answered_refusals_are_logged_too),
    CASE(refusals_at_the_listener_are_logged), CASE(a_limited_address_is_logged),
    CASE(a_full_server_is_logged), CASE(a_flood_of_one_reason_hides_no_other))
