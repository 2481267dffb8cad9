/*
 * HELLO and REPLY between a client and a server: any changed bit prevents the session, and
 * everything that is wrong with a HELLO in mode token is found without Diffie-Hellman work.
 */
#include "proto/handshake.h"
#include "secure_fixture.h"

static secure_fixture fixture;

/* ---- unchanged ------------------------------------------------------------------------------- */

static void expect_same_session(const tp_session_keys *client, const tp_session_keys *server) {
    CHECK_EQ(client->suite, server->suite);
    CHECK_MEM(client->send, server->receive, TP_KEY_SIZE);
    CHECK_MEM(client->receive, server->send, TP_KEY_SIZE);
    CHECK(memcmp(client->send, client->receive, TP_KEY_SIZE) != 0);
}

static void establish(tp_suite suite, tp_mode mode) {
    tp_noise noise;
    tp_session_keys keys;
    tp_reply reply;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t answer[TP_REPLY_WELCOME];
    uint64_t before = tp_noise_diffie_hellman_count();
    fixture_hello(&fixture, suite, mode, &noise, hello);
    CHECK_EQ(fixture_serve(&fixture, mode, hello, answer, &keys), TP_OK);
    CHECK_EQ(tp_reply_size(answer[0]), TP_REPLY_WELCOME);
    CHECK_EQ(tp_reply_read(&noise, answer, sizeof answer, &reply), TP_OK);
    CHECK_EQ(reply.status, TP_REPLY_IS_WELCOME);
    CHECK_MEM(&reply.terms, &fixture_terms, sizeof fixture_terms);
    CHECK_EQ(keys.suite, suite);
    expect_same_session(&reply.keys, &keys);
    CHECK_EQ(tp_noise_diffie_hellman_count() - before, 4); /* two on each side */
    noise.failed = false;
    CHECK(fixture_all_zero(&noise, sizeof noise));
}

static void an_unchanged_handshake_establishes_a_session(void) {
    fixture_draw(&fixture);
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        for (size_t m = 0; m < FIXTURE_MODES; m++) {
            establish(fixture_suites[s], fixture_modes[m]);
        }
    }
}

static void the_tokens_identity_is_delivered(void) {
    tp_noise noise;
    tp_hello checked;
    uint8_t hello[TP_HELLO_MAX];
    fixture_draw(&fixture);
    fixture_hello(&fixture, TP_SUITE_CHACHA20_POLY1305, TP_MODE_TOKEN, &noise, hello);
    CHECK_EQ(fixture_check(&fixture, TP_MODE_TOKEN, hello, &checked), TP_OK);
    CHECK_EQ(checked.token.identity.account, fixture.identity.account);
    CHECK_EQ(checked.token.identity.flags, fixture.identity.flags);
    CHECK_MEM(checked.token.identity.user_data, fixture.identity.user_data, TP_TOKEN_USER_DATA);
    CHECK_MEM(checked.token.id, hello + 20, TP_TOKEN_ID_SIZE);
    CHECK_EQ(checked.token.expiry, FIXTURE_EXPIRY);
}

/* ---- changed in transit ---------------------------------------------------------------------- */

/* A changed HELLO is refused; in mode token without Diffie-Hellman work. */
static void expect_refused(tp_mode mode, const uint8_t *hello) {
    tp_session_keys keys;
    uint8_t reply[TP_REPLY_WELCOME];
    uint64_t before = tp_noise_diffie_hellman_count();
    memset(&keys, 0x5a, sizeof keys);
    CHECK_NE(fixture_serve(&fixture, mode, hello, reply, &keys), TP_OK);
    if (mode == TP_MODE_TOKEN) {
        CHECK_EQ(tp_noise_diffie_hellman_count(), before);
    } else {
        CHECK_LE(tp_noise_diffie_hellman_count() - before, 1);
    }
}

static void every_bit_of_hello(tp_suite suite, tp_mode mode) {
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    size_t size = tp_hello_size(mode);
    fixture_hello(&fixture, suite, mode, &noise, hello);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        hello[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_refused(mode, hello);
        hello[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    tp_session_keys keys;
    uint8_t reply[TP_REPLY_WELCOME];
    /* Unchanged, it is accepted: it was the bit. */
    CHECK_EQ(fixture_serve(&fixture, mode, hello, reply, &keys), TP_OK);
}

static void a_changed_bit_of_an_open_hello_is_refused(void) {
    fixture_draw(&fixture);
    every_bit_of_hello(TP_SUITE_AES_256_GCM, TP_MODE_OPEN);
    every_bit_of_hello(TP_SUITE_CHACHA20_POLY1305, TP_MODE_OPEN);
}

static void a_changed_bit_of_a_hello_with_token_is_refused(void) {
    fixture_draw(&fixture);
    every_bit_of_hello(TP_SUITE_AES_256_GCM, TP_MODE_TOKEN);
    every_bit_of_hello(TP_SUITE_CHACHA20_POLY1305, TP_MODE_TOKEN);
}

/* As a client does with the first bytes of a REPLY: the status gives the length. */
static void expect_no_welcome(const tp_noise *noise, const uint8_t *bytes) {
    tp_noise kept = *noise;
    tp_reply reply;
    size_t size = tp_reply_size(bytes[0]);
    if (size > 0) {
        tp_err error = tp_reply_read(&kept, bytes, size, &reply);
        CHECK(error != TP_OK || reply.status != TP_REPLY_IS_WELCOME);
        CHECK(fixture_all_zero(&reply.keys, sizeof reply.keys));
    }
    kept = *noise;
    CHECK_NE(tp_reply_read(&kept, bytes, TP_REPLY_WELCOME, &reply), TP_OK);
    CHECK(fixture_all_zero(&reply.keys, sizeof reply.keys));
    kept.failed = false;
    CHECK(fixture_all_zero(&kept, sizeof kept));
}

static void every_bit_of_reply(tp_suite suite, tp_mode mode) {
    tp_noise noise;
    tp_session_keys keys;
    tp_reply reply;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t bytes[TP_REPLY_WELCOME];
    fixture_hello(&fixture, suite, mode, &noise, hello);
    REQUIRE(fixture_serve(&fixture, mode, hello, bytes, &keys) == TP_OK);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_no_welcome(&noise, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ(tp_reply_read(&noise, bytes, sizeof bytes, &reply), TP_OK);
    expect_same_session(&reply.keys, &keys);
}

static void a_changed_bit_of_a_reply_is_refused(void) {
    fixture_draw(&fixture);
    every_bit_of_reply(TP_SUITE_AES_256_GCM, TP_MODE_OPEN);
    every_bit_of_reply(TP_SUITE_CHACHA20_POLY1305, TP_MODE_TOKEN);
}

/* Every other value of the two bytes that select suite and mode, sent to a server of either
 * mode. */
static void another_suite_or_mode_is_refused(void) {
    fixture_draw(&fixture);
    for (size_t m = 0; m < FIXTURE_MODES; m++) {
        for (size_t s = 0; s < FIXTURE_SUITES; s++) {
            tp_noise noise;
            uint8_t hello[TP_HELLO_MAX];
            fixture_hello(&fixture, fixture_suites[s], fixture_modes[m], &noise, hello);
            for (unsigned value = 0; value < 2 * 256; value++) {
                size_t place = value < 256 ? 4 : 5;
                uint8_t before = hello[place];
                hello[place] = (uint8_t)value;
                if (hello[place] != before) {
                    expect_refused(TP_MODE_OPEN, hello);
                    expect_refused(TP_MODE_TOKEN, hello);
                }
                hello[place] = before;
            }
        }
    }
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void expect_reason(const uint8_t *hello, uint64_t now, tp_err expected) {
    tp_hello checked;
    uint64_t before = tp_noise_diffie_hellman_count();
    memset(&checked, 0x5a, sizeof checked);
    CHECK_EQ(tp_hello_check(hello, TP_MODE_TOKEN, &fixture.gateway, fixture.ring, 2, now, &checked),
        expected);
    CHECK_EQ(tp_noise_diffie_hellman_count(), before);
    if (expected) {
        CHECK(fixture_all_zero(&checked, sizeof checked));
    }
}

static void a_bad_token_costs_no_diffie_hellman(void) {
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    fixture_draw(&fixture);
    fixture_hello(&fixture, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, hello);
    expect_reason(hello, FIXTURE_NOW, TP_OK);
    expect_reason(hello, FIXTURE_EXPIRY, TP_ERR_EXPIRED);
    fixture.ring[1].id ^= 0x40;
    expect_reason(hello, FIXTURE_NOW, TP_ERR_NO_KEY);
    fixture.ring[1].id ^= 0x40;
    fixture.ring[1].key[0] ^= 1;
    expect_reason(hello, FIXTURE_NOW, TP_ERR_AUTH);
    fixture.ring[1].key[0] ^= 1;
    hello[TP_HELLO_TOKEN - 1] ^= 1; /* mac1 */
    expect_reason(hello, FIXTURE_NOW, TP_ERR_AUTH);
    hello[TP_HELLO_TOKEN - 1] ^= 1;
    hello[9] = 1; /* the token's zeros */
    expect_reason(hello, FIXTURE_NOW, TP_ERR_PROTOCOL);
    hello[9] = 0;
    expect_reason(hello, FIXTURE_NOW, TP_OK);
    fixture_draw_gateway(&fixture.gateway);
    expect_reason(hello, FIXTURE_NOW, TP_ERR_AUTH);
}

/* One player's token in another's HELLO, and a token without its secret. */
static void a_token_needs_its_own_hello_and_secret(void) {
    tp_noise noise;
    secure_fixture other;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t others[TP_HELLO_MAX];
    fixture_draw(&fixture);
    other = fixture;
    fixture_mint(&other);
    fixture_hello(&fixture, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, hello);
    fixture_hello(&other, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, others);
    memcpy(others + 8, hello + 8, TP_TOKEN_SIZE);
    expect_reason(others, FIXTURE_NOW, TP_ERR_AUTH);
    /* A stolen token, with a secret of the thief's own. */
    memcpy(other.token, fixture.token, TP_TOKEN_SIZE);
    fixture_hello(&other, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, others);
    expect_reason(others, FIXTURE_NOW, TP_ERR_AUTH);
}

/* ---- the wrong gateway ----------------------------------------------------------------------- */

/* A client that has another gateway's public key cannot connect here, and a gateway without the
 * private key cannot convince a client, whatever the token. */
static void a_wrong_gateway_key_is_refused(void) {
    for (size_t m = 0; m < FIXTURE_MODES; m++) {
        tp_noise noise;
        tp_session_keys keys;
        uint8_t hello[TP_HELLO_MAX];
        uint8_t reply[TP_REPLY_WELCOME];
        fixture_draw(&fixture);
        fixture_hello(&fixture, TP_SUITE_AES_256_GCM, fixture_modes[m], &noise, hello);
        fixture_draw_gateway(&fixture.gateway);
        expect_refused(fixture_modes[m], hello);

        /* A token for the new gateway, and a client with the old one's key. */
        fixture_mint(&fixture);
        tp_client_hello options = fixture_client(&fixture, TP_SUITE_AES_256_GCM, fixture_modes[m]);
        tp_gateway_key old;
        size_t written;
        fixture_draw_gateway(&old);
        options.server_public = old.pair.public_key;
        REQUIRE(tp_hello_write(&options, &noise, hello, &written) == TP_OK);
        uint64_t before = tp_noise_diffie_hellman_count();
        CHECK_EQ(fixture_serve(&fixture, fixture_modes[m], hello, reply, &keys), TP_ERR_AUTH);
        CHECK_EQ(tp_noise_diffie_hellman_count() - before, 1);
        CHECK(fixture_all_zero(&keys, sizeof keys));
        CHECK(fixture_all_zero(reply, sizeof reply));
    }
}

/* A REPLY fits one HELLO only. */
static void a_reply_to_another_hello_is_refused(void) {
    tp_noise noise[2];
    tp_session_keys keys;
    tp_reply reply;
    uint8_t hello[2][TP_HELLO_MAX];
    uint8_t bytes[TP_REPLY_WELCOME];
    fixture_draw(&fixture);
    for (unsigned i = 0; i < 2; i++) {
        fixture_hello(&fixture, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise[i], hello[i]);
    }
    REQUIRE(fixture_serve(&fixture, TP_MODE_TOKEN, hello[0], bytes, &keys) == TP_OK);
    CHECK_EQ(tp_reply_read(&noise[1], bytes, sizeof bytes, &reply), TP_ERR_AUTH);
    CHECK_EQ(tp_reply_read(&noise[0], bytes, sizeof bytes, &reply), TP_OK);
    /* After one REPLY the handshake is over. */
    CHECK_EQ(tp_reply_read(&noise[0], bytes, sizeof bytes, &reply), TP_ERR_STATE);
}

/* ---- the small parts ------------------------------------------------------------------------- */

static void a_hello_is_judged_by_its_first_bytes(void) {
    const uint8_t good[] = {'T', 'P', 'W', '1', 2, 1, 0, 0};
    uint8_t bytes[TP_HELLO_FIXED];
    for (size_t count = 0; count <= sizeof good; count++) {
        CHECK_EQ(tp_hello_look(good, count, TP_MODE_TOKEN), TP_HELLO_GOOD);
        CHECK_EQ(
            tp_hello_look(good, count, TP_MODE_OPEN), count > 5 ? TP_HELLO_FOREIGN : TP_HELLO_GOOD);
    }
    for (size_t place = 0; place < sizeof good; place++) {
        for (unsigned value = 0; value < 256; value++) {
            memcpy(bytes, good, sizeof good);
            bytes[place] = (uint8_t)value;
            bool right = value == good[place] || (place == 4 && value == 1);
            bool version = place == 3 && value >= '0' && value <= '9';
            tp_hello_begin expected = right     ? TP_HELLO_GOOD
                                      : version ? TP_HELLO_OTHER_VERSION
                                                : TP_HELLO_FOREIGN;
            CHECK_EQ(tp_hello_look(bytes, place, TP_MODE_TOKEN), TP_HELLO_GOOD);
            CHECK_EQ(tp_hello_look(bytes, place + 1, TP_MODE_TOKEN), expected);
            CHECK_EQ(tp_hello_look(bytes, sizeof bytes, TP_MODE_TOKEN), expected);
        }
    }
}

static void busy_and_version_replies_are_read(void) {
    tp_noise noise = {0};
    tp_reply reply;
    uint8_t busy[TP_REPLY_BUSY];
    uint8_t version[TP_REPLY_VERSION];
    tp_reply_write_busy(0x1234, busy);
    CHECK_MEM(busy, "\x01\x34\x12", sizeof busy);
    CHECK_EQ(tp_reply_size(busy[0]), sizeof busy);
    CHECK_EQ(tp_reply_read(&noise, busy, sizeof busy, &reply), TP_OK);
    CHECK_EQ(reply.status, TP_REPLY_IS_BUSY);
    CHECK_EQ(reply.busy_seconds, 0x1234);
    tp_reply_write_version(version);
    CHECK_MEM(version, "\x02\x01", sizeof version);
    CHECK_EQ(tp_reply_size(version[0]), sizeof version);
    CHECK_EQ(tp_reply_read(&noise, version, sizeof version, &reply), TP_OK);
    CHECK_EQ(reply.status, TP_REPLY_IS_VERSION);
    CHECK_EQ(reply.highest_version, TP_WAN_VERSION);
    CHECK_EQ(tp_reply_read(&noise, busy, 0, &reply), TP_ERR_PROTOCOL);
    CHECK_EQ(tp_reply_read(&noise, busy, sizeof busy - 1, &reply), TP_ERR_PROTOCOL);
    for (unsigned status = 3; status < 256; status++) {
        CHECK_EQ(tp_reply_size((uint8_t)status), 0);
    }
}

static void invalid_client_options_are_refused(void) {
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    size_t written = 7;
    fixture_draw(&fixture);
    const tp_client_hello good = fixture_client(&fixture, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN);
    for (unsigned what = 0; what < 5; what++) {
        tp_client_hello options = good;
        options.size -= what == 0;
        options.suite = what == 1 ? (tp_suite)3 : options.suite;
        options.server_public = what == 2 ? NULL : options.server_public;
        options.token = what == 3 ? NULL : options.token;
        options.secret = what == 4 ? NULL : options.secret;
        CHECK_EQ(tp_hello_write(&options, &noise, hello, &written), TP_ERR_INVALID);
        CHECK_EQ(written, 0);
    }
    CHECK_EQ(tp_hello_write(&good, &noise, hello, &written), TP_OK);
    CHECK_EQ(written, TP_HELLO_TOKEN);
}

CHECK_MAIN(CASE(an_unchanged_handshake_establishes_a_session),
    CASE(the_tokens_identity_is_delivered), CASE(a_changed_bit_of_an_open_hello_is_refused),
    CASE(a_changed_bit_of_a_hello_with_token_is_refused), CASE(a_changed_bit_of_a_reply_is_refused),
    CASE(another_suite_or_mode_is_refused), CASE(a_bad_token_costs_no_diffie_hellman),
    CASE(a_token_needs_its_own_hello_and_secret), CASE(a_wrong_gateway_key_is_refused),
    CASE(a_reply_to_another_hello_is_refused), CASE(a_hello_is_judged_by_its_first_bytes),
    CASE(busy_and_version_replies_are_read), CASE(invalid_client_options_are_refused))
