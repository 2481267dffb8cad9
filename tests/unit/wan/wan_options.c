/*
 * The WAN's defaults and options: the range of each, combinations that are refused, and that the
 * server keeps copies of keys.
 */
#include "wan_fixture.h"

static wan_fixture fixture;

static void the_defaults_are_as_documented(void) {
    tp_wanserver_defaults(&fixture.options);
    const tp_wanserver_options profile = fixture.options;
    CHECK_EQ(profile.size, sizeof profile);
    CHECK_EQ(profile.server.size, sizeof profile.server);
    CHECK_STR(profile.server.name, "wan");
    CHECK(profile.server.listen);
    CHECK(profile.server.nodelay);
    CHECK_EQ(profile.server.address.port, 0);
    CHECK_EQ(profile.server.access.allow_count, 0);
    CHECK_EQ(profile.server.max_sessions, 4096);
    CHECK_EQ(profile.server.max_frame, 65536);
    CHECK_EQ(profile.server.queue_bytes, 1u << 20);
    CHECK_EQ(profile.server.queue_packets, 4096);
    CHECK_EQ(profile.server.idle_timeout_ms, 60000);
    CHECK_EQ(profile.server.ping_interval_ms, 30000);
    CHECK_EQ(profile.auth, TP_AUTH_TOKEN);
    CHECK(profile.private_key == NULL);
    CHECK(profile.token_keys == NULL);
    CHECK_EQ(profile.replay_tokens, 262144);
    CHECK_EQ(profile.max_token_life_s, 3600);
    CHECK_EQ(profile.handshake_timeout_ms, 10000);
    CHECK_EQ(profile.max_pending, 1024);
    CHECK_EQ(profile.handshake_threads, 1);
    CHECK_EQ(profile.handshake_priority, TP_HANDSHAKE_IDLE);
    CHECK_EQ(profile.handshake_queue, 512);
    CHECK_EQ(profile.busy_seconds, 5);
    CHECK_EQ(profile.accept_rate, 20);
    CHECK_EQ(profile.accept_burst, 50);
    CHECK_EQ(profile.connections_per_address, 64);
    CHECK_EQ(profile.max_addresses, 65536);
    CHECK_EQ(profile.message_rate, 200);
    CHECK_EQ(profile.message_burst, 400);
    CHECK_EQ(profile.byte_rate, 256u << 10);
    CHECK_EQ(profile.byte_burst, 512u << 10);
}

static tp_err create(void) {
    tp_server *server = (tp_server *)&fixture; /* must be set to NULL */
    tp_err error = tp_wanserver_create(&fixture.options, &fixture.base.handlers, &server);
    CHECK_EQ(error == TP_OK, server != NULL);
    CHECK(server != (tp_server *)&fixture);
    tp_server_destroy(server);
    return error;
}

/* For each option two valid values and two invalid ones, at the ends of its range where that costs
 * no memory to try. */
static const struct option {
    const char *name;
    size_t offset;
    size_t size;
    uint64_t good[2];
    uint64_t bad[2];
} options[] = {
#define OPTION(field, ...)                                                                         \
    { #field, offsetof(tp_wanserver_options, field), sizeof fixture.options.field, __VA_ARGS__ }
    OPTION(auth, {TP_AUTH_TOKEN, TP_AUTH_OPEN}, {2, 99}),
    OPTION(replay_tokens, {1024, 2000}, {1023, 16777217}),
    OPTION(max_token_life_s, {1, 315360000}, {0, 315360001}),
    OPTION(handshake_timeout_ms, {100, 600000}, {99, 600001}),
    OPTION(max_pending, {16, 65536}, {15, 65537}),
    OPTION(handshake_threads, {1, 64}, {0, 65}),
    OPTION(handshake_priority, {TP_HANDSHAKE_IDLE, TP_HANDSHAKE_NORMAL}, {3, 99}),
    OPTION(handshake_queue, {1, 65536}, {0, 65537}),
    OPTION(busy_seconds, {0, 65535}, {65536, UINT32_MAX}),
    OPTION(accept_rate, {0, 1000000}, {1000001, UINT32_MAX}),
    OPTION(accept_burst, {1, 1000000}, {0, 1000001}),
    OPTION(connections_per_address, {0, 1048576}, {1048577, UINT32_MAX}),
    OPTION(max_addresses, {1024, 2000}, {1023, 16777217}),
    OPTION(message_rate, {0, 10000000}, {10000001, UINT32_MAX}),
    OPTION(message_burst, {1, 10000000}, {0, 10000001}),
    OPTION(byte_rate, {0, UINT32_MAX}, {UINT64_C(1) << 32, UINT64_MAX}),
    OPTION(byte_burst, {65536, UINT32_MAX}, {65535, UINT64_C(1) << 32}),
#undef OPTION
};

static void set(const struct option *option, uint64_t value) {
    uint8_t *field = (uint8_t *)&fixture.options + option->offset;
    const uint32_t narrow = (uint32_t)value;
    if (option->size == sizeof narrow) {
        memcpy(field, &narrow, sizeof narrow);
    } else {
        REQUIRE(option->size == sizeof value);
        memcpy(field, &value, sizeof value);
    }
}

static void check_option(const struct option *option, uint64_t value, tp_err expected) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.replay_tokens = fixture.options.max_addresses = 1024;
    fixture.options.accept_rate = fixture.options.message_rate = 1;
    fixture.options.byte_rate = 1;
    fixture.options.server.max_frame = 1000; /* the smallest valid byte_burst is enough for that */
    set(option, value);
    if (create() != expected) {
        printf("%s = %" PRIu64 "\n", option->name, value);
        FAIL("the value is not checked against its range");
    }
}

static void each_option_has_its_range(void) {
    tp_log_set_level(TP_LOG_OFF); /* each refusal is logged */
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        for (unsigned value = 0; value < 2; value++) {
            check_option(&options[i], options[i].good[value], TP_OK);
            check_option(&options[i], options[i].bad[value], TP_ERR_INVALID);
        }
    }
}

/* A burst without its rate may be anything: it has no effect. */
static void options_without_effect_are_not_checked(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.accept_burst = fixture.options.message_burst = 0;
    fixture.options.byte_burst = 0;
    fixture.options.token_keys = NULL;
    fixture.options.token_key_count = 0;
    CHECK_EQ(create(), TP_OK);
}

/* Each in its range; with one less or one more they are accepted. */
static void contradictory_options_are_refused(void) {
    tp_log_set_level(TP_LOG_OFF);
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.byte_rate = 1000;
    /* 65,536 bytes, a header of 4, five records of 18 more each. */
    fixture.options.byte_burst = 65630;
    fixture.options.server.max_frame = 65537;
    CHECK_EQ(create(), TP_ERR_INVALID);
    fixture.options.server.max_frame = 65536;
    CHECK_EQ(create(), TP_OK);
    fixture.options.byte_rate = 0;
    fixture.options.server.max_frame = 65537;
    CHECK_EQ(create(), TP_OK);

    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.max_pending = 16;
    fixture.options.server.max_sessions = TP_MAX_SESSIONS - 19;
    CHECK_EQ(create(), TP_ERR_INVALID);
}

static void missing_options_are_refused(void) {
    tp_log_set_level(TP_LOG_OFF);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.size--;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.private_key = NULL;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.listen = false;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.token_keys = NULL;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.token_key_count = TP_TOKEN_KEYS_MAX + 1;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.ring[1].id = fixture.ring[0].id;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.max_sessions = 0; /* refused by the core */
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.base.handlers.size--;
    CHECK_EQ(create(), TP_ERR_INVALID);
}

/* A public address needs no permission here: players connect from there. */
static void a_public_address_needs_no_permission(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    REQUIRE(tp_address_parse("0.0.0.0:0", &fixture.options.server.address) == TP_OK);
    CHECK_EQ(create(), TP_OK);
}

/* The caller's keys may be freed before players connect. */
static void keys_are_copied(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    tp_secure_wipe(&fixture.key, sizeof fixture.key);
    tp_secure_wipe(fixture.ring, sizeof fixture.ring);
    memset(&fixture.options, 0xff, sizeof fixture.options);
    tp_address address = tp_server_address(fixture.base.server);
    wan_peer *peer = wan_join(&address, &login);
    REQUIRE(peer != NULL);
    wan_check_echo(peer, "x");
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(the_defaults_are_as_documented), CASE(each_option_has_its_range),
    CASE(options_without_effect_are_not_checked), CASE(contradictory_options_are_refused),
    CASE(missing_options_are_refused), CASE(a_public_address_needs_no_permission),
    CASE(keys_are_copied))
