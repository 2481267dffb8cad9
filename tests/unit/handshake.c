/*
 * HELLO and REPLY: whatever is changed on the way, nothing is established; and what is wrong with a
 * HELLO in mode token is found out without any Diffie-Hellman work.
 */
#include "proto/handshake.h"
#include "secure_stage.h"

static secure_stage stage;

/* ---- as it should be ------------------------------------------------------------------------- */

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
    stage_hello(&stage, suite, mode, &noise, hello);
    CHECK_EQ(stage_serve(&stage, mode, hello, answer, &keys), TP_OK);
    CHECK_EQ(tp_reply_size(answer[0]), TP_REPLY_WELCOME);
    CHECK_EQ(tp_reply_read(&noise, answer, sizeof answer, &reply), TP_OK);
    CHECK_EQ(reply.status, TP_REPLY_IS_WELCOME);
    CHECK_MEM(&reply.terms, &stage_terms, sizeof stage_terms);
    CHECK_EQ(keys.suite, suite);
    expect_same_session(&reply.keys, &keys);
    CHECK_EQ(tp_noise_diffie_hellman_count() - before, 4); /* two on either side */
    noise.failed = false;
    CHECK(stage_all_zero(&noise, sizeof noise));
}

static void establishes(void) {
    stage_draw(&stage);
    for (size_t s = 0; s < STAGE_SUITES; s++) {
        for (size_t m = 0; m < STAGE_MODES; m++) {
            establish(stage_suites[s], stage_modes[m]);
        }
    }
}

static void identity_comes_along(void) {
    tp_noise noise;
    tp_hello checked;
    uint8_t hello[TP_HELLO_MAX];
    stage_draw(&stage);
    stage_hello(&stage, TP_SUITE_CHACHA20_POLY1305, TP_MODE_TOKEN, &noise, hello);
    CHECK_EQ(stage_check(&stage, TP_MODE_TOKEN, hello, &checked), TP_OK);
    CHECK_EQ(checked.token.identity.account, stage.identity.account);
    CHECK_EQ(checked.token.identity.flags, stage.identity.flags);
    CHECK_MEM(checked.token.identity.user_data, stage.identity.user_data, TP_TOKEN_USER_DATA);
    CHECK_MEM(checked.token.id, hello + 20, TP_TOKEN_ID_SIZE);
    CHECK_EQ(checked.token.expiry, STAGE_EXPIRY);
}

/* ---- changed on the way ---------------------------------------------------------------------- */

/* A changed HELLO is refused; in mode token without Diffie-Hellman work. */
static void expect_refused(tp_mode mode, const uint8_t *hello) {
    tp_session_keys keys;
    uint8_t reply[TP_REPLY_WELCOME];
    uint64_t before = tp_noise_diffie_hellman_count();
    memset(&keys, 0x5a, sizeof keys);
    CHECK_NE(stage_serve(&stage, mode, hello, reply, &keys), TP_OK);
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
    stage_hello(&stage, suite, mode, &noise, hello);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        hello[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_refused(mode, hello);
        hello[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    tp_session_keys keys;
    uint8_t reply[TP_REPLY_WELCOME];
    CHECK_EQ(stage_serve(&stage, mode, hello, reply, &keys), TP_OK); /* it was the bit */
}

static void every_bit_of_an_open_hello(void) {
    stage_draw(&stage);
    every_bit_of_hello(TP_SUITE_AES_256_GCM, TP_MODE_OPEN);
    every_bit_of_hello(TP_SUITE_CHACHA20_POLY1305, TP_MODE_OPEN);
}

static void every_bit_of_a_hello_with_token(void) {
    stage_draw(&stage);
    every_bit_of_hello(TP_SUITE_AES_256_GCM, TP_MODE_TOKEN);
    every_bit_of_hello(TP_SUITE_CHACHA20_POLY1305, TP_MODE_TOKEN);
}

/* What a client does with the first bytes that come: it takes as many as the status says. */
static void expect_no_welcome(const tp_noise *noise, const uint8_t *bytes) {
    tp_noise kept = *noise;
    tp_reply reply;
    size_t size = tp_reply_size(bytes[0]);
    if (size > 0) {
        tp_err error = tp_reply_read(&kept, bytes, size, &reply);
        CHECK(error != TP_OK || reply.status != TP_REPLY_IS_WELCOME);
        CHECK(stage_all_zero(&reply.keys, sizeof reply.keys));
    }
    kept = *noise;
    CHECK_NE(tp_reply_read(&kept, bytes, TP_REPLY_WELCOME, &reply), TP_OK);
    CHECK(stage_all_zero(&reply.keys, sizeof reply.keys));
    kept.failed = false;
    CHECK(stage_all_zero(&kept, sizeof kept));
}

static void every_bit_of_reply(tp_suite suite, tp_mode mode) {
    tp_noise noise;
    tp_session_keys keys;
    tp_reply reply;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t bytes[TP_REPLY_WELCOME];
    stage_hello(&stage, suite, mode, &noise, hello);
    REQUIRE(stage_serve(&stage, mode, hello, bytes, &keys) == TP_OK);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_no_welcome(&noise, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ(tp_reply_read(&noise, bytes, sizeof bytes, &reply), TP_OK);
    expect_same_session(&reply.keys, &keys);
}

static void every_bit_of_a_reply(void) {
    stage_draw(&stage);
    every_bit_of_reply(TP_SUITE_AES_256_GCM, TP_MODE_OPEN);
    every_bit_of_reply(TP_SUITE_CHACHA20_POLY1305, TP_MODE_TOKEN);
}

/* Every other value of the two bytes that choose, to a server of either mode. */
static void other_suite_or_mode(void) {
    stage_draw(&stage);
    for (size_t m = 0; m < STAGE_MODES; m++) {
        for (size_t s = 0; s < STAGE_SUITES; s++) {
            tp_noise noise;
            uint8_t hello[TP_HELLO_MAX];
            stage_hello(&stage, stage_suites[s], stage_modes[m], &noise, hello);
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
    CHECK_EQ(tp_hello_check(hello, TP_MODE_TOKEN, &stage.gateway, stage.ring, 2, now, &checked),
        expected);
    CHECK_EQ(tp_noise_diffie_hellman_count(), before);
    if (expected) {
        CHECK(stage_all_zero(&checked, sizeof checked));
    }
}

static void token_failures_cost_no_agreement(void) {
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    stage_draw(&stage);
    stage_hello(&stage, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, hello);
    expect_reason(hello, STAGE_NOW, TP_OK);
    expect_reason(hello, STAGE_EXPIRY, TP_ERR_EXPIRED);
    stage.ring[1].id ^= 0x40;
    expect_reason(hello, STAGE_NOW, TP_ERR_NO_KEY);
    stage.ring[1].id ^= 0x40;
    stage.ring[1].key[0] ^= 1;
    expect_reason(hello, STAGE_NOW, TP_ERR_AUTH);
    stage.ring[1].key[0] ^= 1;
    hello[TP_HELLO_TOKEN - 1] ^= 1; /* mac1 */
    expect_reason(hello, STAGE_NOW, TP_ERR_AUTH);
    hello[TP_HELLO_TOKEN - 1] ^= 1;
    hello[9] = 1; /* the token's zeros */
    expect_reason(hello, STAGE_NOW, TP_ERR_PROTOCOL);
    hello[9] = 0;
    expect_reason(hello, STAGE_NOW, TP_OK);
    stage_draw_gateway(&stage.gateway);
    expect_reason(hello, STAGE_NOW, TP_ERR_AUTH);
}

/* One player's token under another's message, and a token without its secret. */
static void tokens_cannot_be_borrowed(void) {
    tp_noise noise;
    secure_stage other;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t others[TP_HELLO_MAX];
    stage_draw(&stage);
    other = stage;
    stage_mint(&other);
    stage_hello(&stage, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, hello);
    stage_hello(&other, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, others);
    memcpy(others + 8, hello + 8, TP_TOKEN_SIZE);
    expect_reason(others, STAGE_NOW, TP_ERR_AUTH);
    memcpy(other.token, stage.token, TP_TOKEN_SIZE); /* stolen, with a secret of one's own */
    stage_hello(&other, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise, others);
    expect_reason(others, STAGE_NOW, TP_ERR_AUTH);
}

/* ---- the wrong gateway ----------------------------------------------------------------------- */

/* A client that knows another gateway's key reaches nobody here; nor does a gateway without the key
 * convince a client, whatever token there is. */
static void wrong_gateway(void) {
    for (size_t m = 0; m < STAGE_MODES; m++) {
        tp_noise noise;
        tp_session_keys keys;
        uint8_t hello[TP_HELLO_MAX];
        uint8_t reply[TP_REPLY_WELCOME];
        stage_draw(&stage);
        stage_hello(&stage, TP_SUITE_AES_256_GCM, stage_modes[m], &noise, hello);
        stage_draw_gateway(&stage.gateway);
        expect_refused(stage_modes[m], hello);

        stage_mint(&stage); /* for the new one, but the client is told the old one's key */
        tp_client_hello options = stage_client(&stage, TP_SUITE_AES_256_GCM, stage_modes[m]);
        tp_gateway_key old;
        size_t written;
        stage_draw_gateway(&old);
        options.server_public = old.pair.public_key;
        REQUIRE(tp_hello_write(&options, &noise, hello, &written) == TP_OK);
        uint64_t before = tp_noise_diffie_hellman_count();
        CHECK_EQ(stage_serve(&stage, stage_modes[m], hello, reply, &keys), TP_ERR_AUTH);
        CHECK_EQ(tp_noise_diffie_hellman_count() - before, 1);
        CHECK(stage_all_zero(&keys, sizeof keys));
        CHECK(stage_all_zero(reply, sizeof reply));
    }
}

/* A REPLY belongs to one HELLO. */
static void reply_to_another_hello(void) {
    tp_noise noise[2];
    tp_session_keys keys;
    tp_reply reply;
    uint8_t hello[2][TP_HELLO_MAX];
    uint8_t bytes[TP_REPLY_WELCOME];
    stage_draw(&stage);
    for (unsigned i = 0; i < 2; i++) {
        stage_hello(&stage, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &noise[i], hello[i]);
    }
    REQUIRE(stage_serve(&stage, TP_MODE_TOKEN, hello[0], bytes, &keys) == TP_OK);
    CHECK_EQ(tp_reply_read(&noise[1], bytes, sizeof bytes, &reply), TP_ERR_AUTH);
    CHECK_EQ(tp_reply_read(&noise[0], bytes, sizeof bytes, &reply), TP_OK);
    /* Read once, the handshake is over. */
    CHECK_EQ(tp_reply_read(&noise[0], bytes, sizeof bytes, &reply), TP_ERR_STATE);
}

/* ---- the small parts ------------------------------------------------------------------------- */

static void looks_early(void) {
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

static void busy_and_version(void) {
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

static void options_of_a_client(void) {
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    size_t written = 7;
    stage_draw(&stage);
    const tp_client_hello good = stage_client(&stage, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN);
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

CHECK_MAIN(CASE(establishes), CASE(identity_comes_along), CASE(every_bit_of_an_open_hello),
    CASE(every_bit_of_a_hello_with_token), CASE(every_bit_of_a_reply), CASE(other_suite_or_mode),
    CASE(token_failures_cost_no_agreement), CASE(tokens_cannot_be_borrowed), CASE(wrong_gateway),
    CASE(reply_to_another_hello), CASE(looks_early), CASE(busy_and_version),
    CASE(options_of_a_client))
