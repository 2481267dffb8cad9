/*
 * What a HELLO must be: every bit of it, the checks in their order, and what each failure costs.
 * Nobody who fails is let in, and only who passes all of them costs Diffie-Hellman work.
 */
#undef tp__handshakes_offer
#include "core/memory/memory.h"
#include "wan_stage.h"
#include "wanserver/handshake/handshakes.h"

static wan_stage stage;

/* The build has welcome.c leave its handshakes to this, which keeps one back while it is told
 * to. */
bool kept_offer(tp__handshakes *handshakes, void *job);

static struct {
    atomic_bool wanted;
    atomic_bool done; /* then the others are written, and no longer the worker's */
    tp__handshakes *handshakes;
    void *job;
} kept;

bool kept_offer(tp__handshakes *handshakes, void *job) {
    if (!atomic_exchange(&kept.wanted, false)) {
        return tp__handshakes_offer(handshakes, job);
    }
    kept.handshakes = handshakes;
    kept.job = job;
    atomic_store(&kept.done, true);
    return true;
}

/* The server's own count: the client in this process computes as well. */
static uint64_t server_work(void) {
    return wan_stats(&stage).diffie_hellman;
}

/* Sends these bytes as a HELLO; true if the stream ends without a byte of answer. */
static bool is_refused_in_silence(const void *bytes, size_t size) {
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    uint8_t byte;
    (void)raw_send(peer, bytes, size);
    bool silent = !raw_receive(peer, &byte, 1) && raw_end(peer) != TP_ERR_TIMED_OUT;
    raw_close(peer, true);
    return silent;
}

static void make_hello(const wan_login *login, uint8_t *hello, size_t *size) {
    tp_noise noise;
    const tp_client_hello options = {
        .size = sizeof options,
        .suite = login->suite,
        .server_public = login->server_public,
        .token = login->with_token ? login->token : NULL,
        .secret = login->with_token ? login->secret : NULL,
    };
    REQUIRE(tp_hello_write(&options, &noise, hello, size) == TP_OK);
    tp_noise_wipe(&noise);
}

static void check_nobody_came_in(void) {
    CHECK_EQ(atomic_load(&stage.base.joins), 0);
    CHECK_EQ(tp_server_session_count(stage.base.server), 0);
    CHECK_EQ(wan_stats(&stage).established, 0);
}

/* ---- every bit ------------------------------------------------------------------------------- */

#define VERSION_DIGIT 3

/* A digit that is another version's is answered, with ours; everything else in silence. */
static void check_bit(const uint8_t *hello, size_t size, size_t bit) {
    uint8_t changed[TP_HELLO_MAX];
    memcpy(changed, hello, size);
    changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    uint64_t told = wan_stats(&stage).other_version;
    bool silent = is_refused_in_silence(changed, size);
    if (!silent && (bit / 8 != VERSION_DIGIT || wan_stats(&stage).other_version == told)) {
        printf("bit %zu of byte %zu\n", bit % 8, bit / 8);
        FAIL("a changed HELLO was answered");
    }
}

static void no_bit_may_change(tp_auth auth, tp_suite suite) {
    wan_stage_init(&stage, auth);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, suite, 5);
    uint8_t hello[TP_HELLO_MAX];
    size_t size;
    make_hello(&login, hello, &size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        check_bit(hello, size, bit);
    }
    check_nobody_came_in();
    CHECK_GT(wan_stats(&stage).foreign, 0);
    if (auth == TP_AUTH_TOKEN) {
        CHECK_EQ(server_work(), 0); /* mac1 covers what the token does not */
        CHECK_GT(wan_stats(&stage).forged, 0);
    } else {
        CHECK_EQ(wan_stats(&stage).not_authentic, TP_KEY_SIZE * 8 + TP_SECRET_TAG * 8);
    }
    /* And without a change it is good: none of the above has used its token up. */
    wan_peer *peer = wan_stage_join(&stage, suite, 5);
    wan_check_echo(peer, "good");
    wan_leave(peer);
    wan_stage_close(&stage);
}

static void no_bit_of_an_open_hello_may_change(void) {
    no_bit_may_change(TP_AUTH_OPEN, TP_SUITE_AES_256_GCM);
    no_bit_may_change(TP_AUTH_OPEN, TP_SUITE_CHACHA20_POLY1305);
}

static void no_bit_of_a_hello_with_a_token_may_change(void) {
    no_bit_may_change(TP_AUTH_TOKEN, TP_SUITE_AES_256_GCM);
}

/* Both ways, in both modes: what is changed is what both sides have hashed. */
static void another_suite_or_mode_is_never_established(void) {
    for (unsigned auth = TP_AUTH_TOKEN; auth <= TP_AUTH_OPEN; auth++) {
        wan_stage_init(&stage, (tp_auth)auth);
        wan_stage_open(&stage);
        static const tp_suite suites[] = WAN_SUITES;
        for (unsigned i = 0; i < 2; i++) {
            const wan_login login = wan_login_as(&stage, suites[i], 5);
            uint8_t hello[TP_HELLO_MAX];
            size_t size;
            make_hello(&login, hello, &size);
            hello[4] = (uint8_t)suites[1 - i];
            CHECK(is_refused_in_silence(hello, size));
            hello[4] = (uint8_t)suites[i];
            hello[5] = !hello[5];
            CHECK(is_refused_in_silence(hello, size));
            CHECK(is_refused_in_silence(hello, TP_HELLO_OPEN));
        }
        check_nobody_came_in();
        wan_stage_close(&stage);
    }
}

static void a_byte_too_many_is_refused(void) {
    for (unsigned auth = TP_AUTH_TOKEN; auth <= TP_AUTH_OPEN; auth++) {
        wan_stage_init(&stage, (tp_auth)auth);
        wan_stage_open(&stage);
        const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 5);
        uint8_t hello[TP_HELLO_MAX + 1] = {0};
        size_t size;
        make_hello(&login, hello, &size);
        CHECK(is_refused_in_silence(hello, size + 1));
        CHECK_EQ(wan_stats(&stage).foreign, 1);
        CHECK_EQ(server_work(), 0);
        check_nobody_came_in();
        wan_stage_close(&stage);
    }
}

/* Nor between HELLO and its answer: there is nothing to say yet. Then no work is done for the
 * answer. */
static void a_byte_before_the_answer_is_refused(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_stage_connect(&stage, &login);
    atomic_store(&kept.wanted, true);
    CHECK(wan_send_hello(peer));
    STAGE_WAIT(atomic_load(&kept.done));
    CHECK(raw_send(peer->raw, "T", 1));
    uint8_t byte;
    CHECK(!raw_receive(peer->raw, &byte, 1));
    CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
    CHECK_EQ(wan_stats(&stage).foreign, 1);
    CHECK(tp__handshakes_offer(kept.handshakes, kept.job));
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    CHECK_EQ(server_work(), 0);
    check_nobody_came_in();
    wan_close(peer, false);
    wan_stage_close(&stage);
}

/* A short one waits for the rest, whatever a foreign client thinks it has said. */
static void other_protocols_are_refused_at_once(void) {
    static const char *const others[] = {
        "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "SSH-2.0-x\r\n", "tpw1", "TPX", "T\1"};
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        CHECK(is_refused_in_silence(others[i], strlen(others[i])));
    }
    CHECK_EQ(wan_stats(&stage).foreign, sizeof others / sizeof others[0]);
    wan_stage_close(&stage);
}

static void another_version_is_told_ours(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    uint8_t hello[600] = "TPW2"; /* its HELLO may be longer than ours */
    uint8_t reply[TP_REPLY_VERSION];
    CHECK(raw_send(peer, hello, sizeof hello));
    CHECK(raw_receive(peer, reply, sizeof reply));
    CHECK_EQ(reply[0], TP_REPLY_IS_VERSION);
    CHECK_EQ(reply[1], TP_WAN_VERSION);
    CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
    raw_close(peer, false);
    CHECK_EQ(wan_stats(&stage).other_version, 1);
    wan_stage_close(&stage);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static bool is_let_in(const wan_login *login) {
    return wan_stage_lets_in(&stage, login);
}

/* A token with these properties. */
static wan_login mint(const tp_token_key *key, int64_t seconds, const uint8_t *server_public) {
    wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    REQUIRE(tp_token_mint(key, (uint64_t)((int64_t)(tp_clock_wall_ms() / 1000) + seconds),
                server_public, &identity, login.token, login.secret) == TP_OK);
    return login;
}

/* No slot, and no Diffie-Hellman work. */
static void tokens_that_are_not_good_cost_nothing(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    tp_key_pair other_gateway;
    REQUIRE(tp_key_pair_generate(&other_gateway) == TP_OK);
    tp_token_key stranger = {.id = 1};
    tp_random_bytes(stranger.key, sizeof stranger.key);
    tp_token_key unknown = stage.ring[0];
    unknown.id = 77;

    const wan_login expired = mint(&stage.ring[0], -1, stage.key.public_key);
    const wan_login for_another = mint(&stage.ring[0], 3600, other_gateway.public_key);
    const wan_login of_a_stranger = mint(&stranger, 3600, stage.key.public_key);
    const wan_login no_key = mint(&unknown, 3600, stage.key.public_key);
    wan_login wrong_secret = mint(&stage.ring[0], 3600, stage.key.public_key);
    wrong_secret.secret[0] ^= 1;
    CHECK(!is_let_in(&expired));
    CHECK(!is_let_in(&for_another));
    CHECK(!is_let_in(&of_a_stranger));
    CHECK(!is_let_in(&no_key));
    CHECK(!is_let_in(&wrong_secret));

    tp_wanserver_stats stats = wan_stats(&stage);
    CHECK_EQ(stats.expired, 1);
    CHECK_EQ(stats.unknown_key, 1);
    CHECK_EQ(stats.forged, 3);
    CHECK_EQ(stats.diffie_hellman, 0);
    check_nobody_came_in();
    wan_stage_close(&stage);
}

/* Once, whether its first user is still there or not; and both keys of the ring are good. */
static void a_token_opens_one_session(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    const wan_login login = mint(&stage.ring[1], 3600, stage.key.public_key);
    CHECK(is_let_in(&login));
    CHECK_EQ(server_work(), 1);
    CHECK(!is_let_in(&login));
    CHECK(!is_let_in(&login));
    CHECK_EQ(wan_stats(&stage).replayed, 2);
    CHECK_EQ(server_work(), 1);
    CHECK_EQ(wan_stats(&stage).established, 1);
    wan_stage_close(&stage);
}

static void no_token_is_taken_that_cannot_be_remembered(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.replay_tokens = 1024;
    wan_stage_open(&stage);
    for (unsigned i = 0; i < 1024; i++) {
        const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, i);
        wan_peer *peer = wan_stage_connect(&stage, &login);
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        wan_close(peer, true);
    }
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    CHECK(!is_let_in(&login));
    CHECK_EQ(wan_stats(&stage).replay_full, 1);
    CHECK_EQ(server_work(), 1024);
    wan_stage_close(&stage);
}

static void the_ring_can_be_replaced(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.token_key_count = 1;
    wan_stage_open(&stage);
    const wan_login of_the_new = mint(&stage.ring[1], 3600, stage.key.public_key);
    CHECK(!is_let_in(&of_the_new));
    CHECK_EQ(tp_wanserver_set_token_keys(stage.base.server, &stage.ring[1], 1), TP_OK);
    CHECK(is_let_in(&of_the_new));
    const wan_login of_the_old = mint(&stage.ring[0], 3600, stage.key.public_key);
    CHECK(!is_let_in(&of_the_old));
    CHECK_EQ(wan_stats(&stage).unknown_key, 2);

    tp_log_set_level(TP_LOG_OFF); /* what is refused is said */
    const tp_token_key twice[] = {stage.ring[0], stage.ring[0]};
    CHECK_EQ(tp_wanserver_set_token_keys(stage.base.server, twice, 2), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_set_token_keys(stage.base.server, stage.ring, 0), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_set_token_keys(stage.base.server, NULL, 1), TP_ERR_INVALID);
    tp__memory_fail_after(1);
    CHECK_EQ(tp_wanserver_set_token_keys(stage.base.server, stage.ring, 2), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    const wan_login again = mint(&stage.ring[1], 3600, stage.key.public_key);
    CHECK(is_let_in(&again)); /* none of these has changed it */
    wan_stage_close(&stage);
}

CHECK_MAIN(CASE(no_bit_of_an_open_hello_may_change),
    CASE(no_bit_of_a_hello_with_a_token_may_change),
    CASE(another_suite_or_mode_is_never_established), CASE(a_byte_too_many_is_refused),
    CASE(a_byte_before_the_answer_is_refused), CASE(other_protocols_are_refused_at_once),
    CASE(another_version_is_told_ours), CASE(tokens_that_are_not_good_cost_nothing),
    CASE(a_token_opens_one_session), CASE(no_token_is_taken_that_cannot_be_remembered),
    CASE(the_ring_can_be_replaced))
