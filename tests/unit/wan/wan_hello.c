/*
 * The checks of a HELLO, on a running server: every bit of it matters, the checks have their order,
 * and only a HELLO that passes all cheap ones costs a Diffie-Hellman operation. Also which tokens
 * are accepted, and how often.
 */
#include "core/memory/memory.h"
#include "wan_fixture.h"
#include "wanserver/handshake/handshakes.h"
#include "wrapped.h"

static wan_fixture fixture;

/* In place of the product's (wrapped.h): keeps the next job once
 * `wanted` is set. */
WRAPPED(bool, tp__handshakes_offer, tp__handshakes *handshakes, void *job);

static struct {
    atomic_bool wanted;
    atomic_bool done; /* set: the other fields are written, and the worker no longer uses them */
    tp__handshakes *handshakes;
    void *job;
} kept;

bool __wrap_tp__handshakes_offer(tp__handshakes *handshakes, void *job) {
    if (!atomic_exchange(&kept.wanted, false)) {
        return __real_tp__handshakes_offer(handshakes, job);
    }
    kept.handshakes = handshakes;
    kept.job = job;
    atomic_store(&kept.done, true);
    return true;
}

/* The operations of the server alone: the client in this process computes as well. */
static uint64_t server_operations(void) {
    return wan_stats(&fixture).diffie_hellman;
}

/* Sends these bytes as a HELLO. True if the stream ends without an answer. */
static bool is_refused_in_silence(const void *bytes, size_t size) {
    tp_address address = tp_server_address(fixture.base.server);
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

static void check_no_session(void) {
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    CHECK_EQ(tp_server_session_count(fixture.base.server), 0);
    CHECK_EQ(wan_stats(&fixture).established, 0);
}

/* ---- every bit ------------------------------------------------------------------------------- */

#define VERSION_DIGIT 3

/* A different version digit is answered with the server's version; everything else in silence. */
static void check_bit(const uint8_t *hello, size_t size, size_t bit) {
    uint8_t changed[TP_HELLO_MAX];
    memcpy(changed, hello, size);
    changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    uint64_t told = wan_stats(&fixture).other_version;
    bool silent = is_refused_in_silence(changed, size);
    if (!silent && (bit / 8 != VERSION_DIGIT || wan_stats(&fixture).other_version == told)) {
        printf("bit %zu of byte %zu\n", bit % 8, bit / 8);
        FAIL("a changed HELLO got an answer");
    }
}

static void check_every_bit(tp_auth auth, tp_suite suite) {
    wan_fixture_init(&fixture, auth);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, suite, 5);
    uint8_t hello[TP_HELLO_MAX];
    size_t size;
    make_hello(&login, hello, &size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        check_bit(hello, size, bit);
    }
    check_no_session();
    CHECK_GT(wan_stats(&fixture).foreign, 0);
    if (auth == TP_AUTH_TOKEN) {
        CHECK_EQ(server_operations(), 0); /* mac1 covers what the token does not */
        CHECK_GT(wan_stats(&fixture).forged, 0);
    } else {
        CHECK_EQ(wan_stats(&fixture).not_authentic, TP_KEY_SIZE * 8 + TP_SECRET_TAG * 8);
    }
    /* The unchanged HELLO is accepted: none of the changed ones has used its token up. */
    wan_peer *peer = wan_fixture_join(&fixture, suite, 5);
    wan_check_echo(peer, "good");
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

static void a_changed_bit_of_an_open_hello_is_refused(void) {
    check_every_bit(TP_AUTH_OPEN, TP_SUITE_AES_256_GCM);
    check_every_bit(TP_AUTH_OPEN, TP_SUITE_CHACHA20_POLY1305);
}

static void a_changed_bit_of_a_hello_with_token_is_refused(void) {
    check_every_bit(TP_AUTH_TOKEN, TP_SUITE_AES_256_GCM);
}

/* In both directions, in both modes: the changed bytes are hashed by both sides. */
static void another_suite_or_mode_is_refused(void) {
    for (unsigned auth = TP_AUTH_TOKEN; auth <= TP_AUTH_OPEN; auth++) {
        wan_fixture_init(&fixture, (tp_auth)auth);
        wan_fixture_open(&fixture);
        static const tp_suite suites[] = WAN_SUITES;
        for (unsigned i = 0; i < 2; i++) {
            const wan_login login = wan_login_as(&fixture, suites[i], 5);
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
        check_no_session();
        wan_fixture_close(&fixture);
    }
}

static void a_byte_after_the_hello_is_refused(void) {
    for (unsigned auth = TP_AUTH_TOKEN; auth <= TP_AUTH_OPEN; auth++) {
        wan_fixture_init(&fixture, (tp_auth)auth);
        wan_fixture_open(&fixture);
        const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 5);
        uint8_t hello[TP_HELLO_MAX + 1] = {0};
        size_t size;
        make_hello(&login, hello, &size);
        CHECK(is_refused_in_silence(hello, size + 1));
        CHECK_EQ(wan_stats(&fixture).foreign, 1);
        CHECK_EQ(server_operations(), 0);
        check_no_session();
        wan_fixture_close(&fixture);
    }
}

/* Nor between HELLO and its answer, where a client has nothing to send. Then no work is done for
 * the answer. */
static void a_byte_before_the_answer_is_refused(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    atomic_store(&kept.wanted, true);
    CHECK(wan_send_hello(peer));
    FIXTURE_WAIT(atomic_load(&kept.done));
    CHECK(raw_send(peer->raw, "T", 1));
    uint8_t byte;
    CHECK(!raw_receive(peer->raw, &byte, 1));
    CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
    CHECK_EQ(wan_stats(&fixture).foreign, 1);
    CHECK(tp__handshakes_offer(kept.handshakes, kept.job));
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    CHECK_EQ(server_operations(), 0);
    check_no_session();
    wan_close(peer, false);
    wan_fixture_close(&fixture);
}

/* A short beginning waits for the rest, whatever a foreign client means by it. */
static void other_protocols_are_refused_early(void) {
    static const char *const others[] = {
        "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "SSH-2.0-x\r\n", "tpw1", "TPX", "T\1"};
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++) {
        CHECK(is_refused_in_silence(others[i], strlen(others[i])));
    }
    CHECK_EQ(wan_stats(&fixture).foreign, sizeof others / sizeof others[0]);
    wan_fixture_close(&fixture);
}

static void another_version_is_answered_with_ours(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
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
    CHECK_EQ(wan_stats(&fixture).other_version, 1);
    wan_fixture_close(&fixture);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static bool is_admitted(const wan_login *login) {
    return wan_fixture_admits(&fixture, login);
}

/* A token with these properties. */
static wan_login mint(const tp_token_key *key, int64_t seconds, const uint8_t *server_public) {
    wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    REQUIRE(tp_token_mint(key, (uint64_t)((int64_t)(tp_clock_wall_ms() / 1000) + seconds),
                server_public, &identity, login.token, login.secret) == TP_OK);
    return login;
}

/* Neither a slot nor a Diffie-Hellman operation. */
static void bad_tokens_cost_no_diffie_hellman(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    tp_key_pair other_gateway;
    REQUIRE(tp_key_pair_generate(&other_gateway) == TP_OK);
    tp_token_key stranger = {.id = 1};
    tp_random_bytes(stranger.key, sizeof stranger.key);
    tp_token_key unknown = fixture.ring[0];
    unknown.id = 77;

    const wan_login expired = mint(&fixture.ring[0], -1, fixture.key.public_key);
    const wan_login for_another = mint(&fixture.ring[0], 3600, other_gateway.public_key);
    const wan_login of_a_stranger = mint(&stranger, 3600, fixture.key.public_key);
    const wan_login no_key = mint(&unknown, 3600, fixture.key.public_key);
    wan_login wrong_secret = mint(&fixture.ring[0], 3600, fixture.key.public_key);
    wrong_secret.secret[0] ^= 1;
    CHECK(!is_admitted(&expired));
    CHECK(!is_admitted(&for_another));
    CHECK(!is_admitted(&of_a_stranger));
    CHECK(!is_admitted(&no_key));
    CHECK(!is_admitted(&wrong_secret));

    tp_wanserver_stats stats = wan_stats(&fixture);
    CHECK_EQ(stats.expired, 1);
    CHECK_EQ(stats.unknown_key, 1);
    CHECK_EQ(stats.forged, 3);
    CHECK_EQ(stats.diffie_hellman, 0);
    check_no_session();
    wan_fixture_close(&fixture);
}

/* Once, whether its first user is still connected or not. Both keys of the ring are valid. */
static void a_token_opens_one_session(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    const wan_login login = mint(&fixture.ring[1], 3600, fixture.key.public_key);
    CHECK(is_admitted(&login));
    CHECK_EQ(server_operations(), 1);
    CHECK(!is_admitted(&login));
    CHECK(!is_admitted(&login));
    CHECK_EQ(wan_stats(&fixture).replayed, 2);
    CHECK_EQ(server_operations(), 1);
    CHECK_EQ(wan_stats(&fixture).established, 1);
    wan_fixture_close(&fixture);
}

static void no_token_is_accepted_that_cannot_be_remembered(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.replay_tokens = 1024;
    wan_fixture_open(&fixture);
    for (unsigned i = 0; i < 1024; i++) {
        const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, i);
        wan_peer *peer = wan_fixture_connect(&fixture, &login);
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        wan_close(peer, true);
    }
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    CHECK(!is_admitted(&login));
    CHECK_EQ(wan_stats(&fixture).replay_full, 1);
    CHECK_EQ(server_operations(), 1024);
    wan_fixture_close(&fixture);
}

static void the_token_keys_can_be_replaced(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.token_key_count = 1;
    wan_fixture_open(&fixture);
    const wan_login of_the_new = mint(&fixture.ring[1], 3600, fixture.key.public_key);
    CHECK(!is_admitted(&of_the_new));
    CHECK_EQ(tp_wanserver_set_token_keys(fixture.base.server, &fixture.ring[1], 1), TP_OK);
    CHECK(is_admitted(&of_the_new));
    const wan_login of_the_old = mint(&fixture.ring[0], 3600, fixture.key.public_key);
    CHECK(!is_admitted(&of_the_old));
    CHECK_EQ(wan_stats(&fixture).unknown_key, 2);

    tp_log_set_level(TP_LOG_OFF); /* refusals are logged */
    const tp_token_key twice[] = {fixture.ring[0], fixture.ring[0]};
    CHECK_EQ(tp_wanserver_set_token_keys(fixture.base.server, twice, 2), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_set_token_keys(fixture.base.server, fixture.ring, 0), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_set_token_keys(fixture.base.server, NULL, 1), TP_ERR_INVALID);
    tp__memory_fail_after(1);
    CHECK_EQ(tp_wanserver_set_token_keys(fixture.base.server, fixture.ring, 2), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    const wan_login again = mint(&fixture.ring[1], 3600, fixture.key.public_key);
    CHECK(is_admitted(&again)); /* none of these has changed the ring */
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_changed_bit_of_an_open_hello_is_refused),
    CASE(a_changed_bit_of_a_hello_with_token_is_refused), CASE(another_suite_or_mode_is_refused),
    CASE(a_byte_after_the_hello_is_refused), CASE(a_byte_before_the_answer_is_refused),
    CASE(other_protocols_are_refused_early), CASE(another_version_is_answered_with_ours),
    CASE(bad_tokens_cost_no_diffie_hellman), CASE(a_token_opens_one_session),
    CASE(no_token_is_accepted_that_cannot_be_remembered), CASE(the_token_keys_can_be_replaced))
