/*
 * The WAN's profile and its options: each range is checked, and secrets are the server's own
 * copies.
 */
#include "wan_stage.h"

static wan_stage stage;

static void the_profile_is_as_it_says(void) {
    tp_wanserver_defaults(&stage.options);
    const tp_wanserver_options profile = stage.options;
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
    tp_server *server = (tp_server *)&stage; /* must not stay */
    tp_err error = tp_wanserver_create(&stage.options, &stage.base.handlers, &server);
    CHECK_EQ(error == TP_OK, server != NULL);
    CHECK(server != (tp_server *)&stage);
    tp_server_destroy(server);
    return error;
}

/* Two values that are possible and two that are not: at the ends of the range, but for what would
 * only cost memory to try. */
static const struct option {
    const char *name;
    size_t offset;
    size_t size;
    uint64_t good[2];
    uint64_t bad[2];
} options[] = {
#define OPTION(field, ...)                                                                         \
    { #field, offsetof(tp_wanserver_options, field), sizeof stage.options.field, __VA_ARGS__ }
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
    uint8_t *field = (uint8_t *)&stage.options + option->offset;
    const uint32_t narrow = (uint32_t)value;
    if (option->size == sizeof narrow) {
        memcpy(field, &narrow, sizeof narrow);
    } else {
        REQUIRE(option->size == sizeof value);
        memcpy(field, &value, sizeof value);
    }
}

static void check_option(const struct option *option, uint64_t value, tp_err expected) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.replay_tokens = stage.options.max_addresses = 1024;
    stage.options.accept_rate = stage.options.message_rate = 1;
    stage.options.byte_rate = 1;
    stage.options.server.max_frame = 1000; /* for which the least byte_burst will do */
    set(option, value);
    if (create() != expected) {
        printf("%s = %" PRIu64 "\n", option->name, value);
        FAIL("is not judged by its range");
    }
}

static void each_option_has_its_range(void) {
    tp_log_set_level(TP_LOG_OFF); /* each refusal is said */
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        for (unsigned value = 0; value < 2; value++) {
            check_option(&options[i], options[i].good[value], TP_OK);
            check_option(&options[i], options[i].bad[value], TP_ERR_INVALID);
        }
    }
}

/* A burst without its rate may be anything: it means nothing. */
static void what_is_off_is_not_judged(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.accept_burst = stage.options.message_burst = 0;
    stage.options.byte_burst = 0;
    stage.options.token_keys = NULL;
    stage.options.token_key_count = 0;
    CHECK_EQ(create(), TP_OK);
}

/* Each in its range; with one less, or more, they fit. */
static void what_contradicts_each_other_is_refused(void) {
    tp_log_set_level(TP_LOG_OFF);
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.byte_rate = 1000;
    stage.options.byte_burst = 65630; /* 65,536, a header of 4, five records of 18 more each */
    stage.options.server.max_frame = 65537;
    CHECK_EQ(create(), TP_ERR_INVALID);
    stage.options.server.max_frame = 65536;
    CHECK_EQ(create(), TP_OK);
    stage.options.byte_rate = 0;
    stage.options.server.max_frame = 65537;
    CHECK_EQ(create(), TP_OK);

    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.max_pending = 16;
    stage.options.server.max_sessions = TP_MAX_SESSIONS - 19;
    CHECK_EQ(create(), TP_ERR_INVALID);
}

static void what_must_be_there_is_asked_for(void) {
    tp_log_set_level(TP_LOG_OFF);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.size--;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.private_key = NULL;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.listen = false;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.token_keys = NULL;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.token_key_count = TP_TOKEN_KEYS_MAX + 1;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.ring[1].id = stage.ring[0].id;
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.max_sessions = 0; /* the core judges the rest */
    CHECK_EQ(create(), TP_ERR_INVALID);
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.base.handlers.size--;
    CHECK_EQ(create(), TP_ERR_INVALID);
}

/* A public address needs no permission here: players come from there. */
static void it_may_listen_to_everybody(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    REQUIRE(tp_address_parse("0.0.0.0:0", &stage.options.server.address) == TP_OK);
    CHECK_EQ(create(), TP_OK);
}

/* What the caller gave may be gone by the time players come. */
static void keys_are_copied(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    tp_secure_wipe(&stage.key, sizeof stage.key);
    tp_secure_wipe(stage.ring, sizeof stage.ring);
    memset(&stage.options, 0xff, sizeof stage.options);
    tp_address address = tp_server_address(stage.base.server);
    wan_peer *peer = wan_join(&address, &login);
    REQUIRE(peer != NULL);
    wan_check_echo(peer, "x");
    wan_leave(peer);
    wan_stage_close(&stage);
}

CHECK_MAIN(CASE(the_profile_is_as_it_says), CASE(each_option_has_its_range),
    CASE(what_is_off_is_not_judged), CASE(what_contradicts_each_other_is_refused),
    CASE(what_must_be_there_is_asked_for), CASE(it_may_listen_to_everybody), CASE(keys_are_copied))
