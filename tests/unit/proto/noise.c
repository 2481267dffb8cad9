/*
 * Our Noise implementation beyond its published vectors: the order of messages, lengths, psk,
 * prologue, public keys that X25519 must refuse, and that used secrets are wiped.
 */
#include "proto/noise.h"
#include "proto/keys.h"
#include "secure_fixture.h"

#define MESSAGE (TP_KEY_SIZE + TP_SECRET_TAG)

typedef struct pair {
    tp_key_pair keys;
    tp_noise initiator;
    tp_noise responder;
} pair;

static void begin(pair *p, tp_suite suite, const uint8_t *psk) {
    REQUIRE(tp_key_pair_generate(&p->keys) == TP_OK);
    REQUIRE(tp_noise_begin_initiator(
                &p->initiator, suite, psk, (const uint8_t *)"abc", 3, p->keys.public_key) == TP_OK);
    REQUIRE(tp_noise_begin_responder(&p->responder, suite, psk, (const uint8_t *)"abc", 3,
                p->keys.private_key, p->keys.public_key) == TP_OK);
}

static void both_sides_have_the_same_keys(void) {
    pair p;
    tp_noise_keys keys[2];
    uint8_t message[MESSAGE];
    for (size_t i = 0; i < FIXTURE_SUITES; i++) {
        begin(&p, fixture_suites[i], NULL);
        uint64_t before = tp_noise_diffie_hellman_count();
        CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, message), TP_OK);
        CHECK_EQ(tp_noise_diffie_hellman_count() - before, 1);
        CHECK_EQ(tp_noise_read(&p.responder, message, MESSAGE, message), TP_OK);
        CHECK_EQ(tp_noise_write(&p.responder, NULL, 0, message), TP_OK);
        CHECK_EQ(tp_noise_diffie_hellman_count() - before, 3);
        CHECK_EQ(tp_noise_read(&p.initiator, message, MESSAGE, message), TP_OK);
        CHECK_EQ(tp_noise_diffie_hellman_count() - before, 4);
        CHECK_EQ(tp_noise_split(&p.initiator, &keys[0]), TP_OK);
        CHECK_EQ(tp_noise_split(&p.responder, &keys[1]), TP_OK);
        CHECK_MEM(&keys[0], &keys[1], sizeof keys[0]);
        CHECK(memcmp(keys[0].to_initiator, keys[0].to_responder, TP_KEY_SIZE) != 0);
        CHECK_MEM(p.initiator.hash, p.responder.hash, TP_KEY_SIZE);
    }
}

/* A psk on one side only, or a different one, is detected by the first message. */
static void both_sides_need_the_same_psk(void) {
    uint8_t psk[2][TP_KEY_SIZE];
    uint8_t message[MESSAGE];
    fixture_draw_key(psk[0]);
    fixture_draw_key(psk[1]);
    const uint8_t *said[] = {NULL, psk[0], psk[1]};
    for (unsigned a = 0; a < 3; a++) {
        for (unsigned b = 0; b < 3; b++) {
            pair p;
            begin(&p, TP_SUITE_AES_256_GCM, said[a]);
            REQUIRE(tp_noise_begin_responder(&p.responder, TP_SUITE_AES_256_GCM, said[b],
                        (const uint8_t *)"abc", 3, p.keys.private_key, p.keys.public_key) == TP_OK);
            CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, message), TP_OK);
            CHECK_EQ(tp_noise_read(&p.responder, message, MESSAGE, message),
                a == b ? TP_OK : TP_ERR_AUTH);
        }
    }
}

/* So is a different prologue: what both sides have seen before cannot be changed in transit. */
static void both_sides_need_the_same_prologue(void) {
    static const char *const said[] = {"", "a", "abc", "abd", "abcd"};
    uint8_t message[MESSAGE];
    for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
        pair p;
        begin(&p, TP_SUITE_CHACHA20_POLY1305, NULL);
        REQUIRE(tp_noise_begin_initiator(&p.initiator, TP_SUITE_CHACHA20_POLY1305, NULL,
                    (const uint8_t *)said[i], strlen(said[i]), p.keys.public_key) == TP_OK);
        CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, message), TP_OK);
        CHECK_EQ(tp_noise_read(&p.responder, message, MESSAGE, message),
            strcmp(said[i], "abc") == 0 ? TP_OK : TP_ERR_AUTH);
    }
}

static void messages_are_taken_in_their_order_only(void) {
    pair p;
    tp_noise_keys keys;
    uint8_t first[MESSAGE];
    uint8_t second[MESSAGE];
    begin(&p, TP_SUITE_AES_256_GCM, NULL);
    CHECK_EQ(tp_noise_write(&p.responder, NULL, 0, first), TP_ERR_STATE);
    CHECK_EQ(tp_noise_read(&p.initiator, first, MESSAGE, first), TP_ERR_STATE);
    CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, first), TP_OK);
    CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, second), TP_ERR_STATE);
    CHECK_EQ(tp_noise_split(&p.initiator, &keys), TP_ERR_STATE);
    CHECK_EQ(tp_noise_read(&p.responder, first, MESSAGE - 1, second), TP_ERR_SHORT);
    CHECK_EQ(tp_noise_read(&p.responder, first, MESSAGE, second), TP_OK);
    CHECK_EQ(tp_noise_read(&p.responder, first, MESSAGE, second), TP_ERR_STATE);
    CHECK_EQ(tp_noise_split(&p.responder, &keys), TP_ERR_STATE);
    CHECK_EQ(tp_noise_write(&p.responder, NULL, 0, second), TP_OK);
    CHECK_EQ(tp_noise_write(&p.responder, NULL, 0, second), TP_ERR_STATE);
    CHECK_EQ(tp_noise_read(&p.initiator, second, MESSAGE, second), TP_OK);
    tp_noise_wipe(&p.initiator);
    CHECK_EQ(tp_noise_split(&p.initiator, &keys), TP_ERR_STATE);
    CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, first), TP_ERR_STATE);
}

static void a_handshake_begins_with_valid_arguments_only(void) {
    tp_noise noise;
    uint8_t key[TP_KEY_SIZE] = {9};
    CHECK_EQ(tp_noise_begin_initiator(&noise, (tp_suite)0, NULL, NULL, 0, key), TP_ERR_INVALID);
    CHECK_EQ(tp_noise_begin_initiator(&noise, (tp_suite)3, NULL, NULL, 0, key), TP_ERR_INVALID);
    CHECK_EQ(
        tp_noise_begin_initiator(&noise, TP_SUITE_AES_256_GCM, NULL, NULL, 1, key), TP_ERR_INVALID);
    CHECK_EQ(tp_noise_write(&noise, NULL, 0, key), TP_ERR_STATE);
    CHECK_EQ(tp_noise_begin_initiator(&noise, TP_SUITE_AES_256_GCM, NULL, NULL, 0, key), TP_OK);
}

/* Public keys of small order, with which every private key gives zero. Both sides refuse them,
 * whatever the top bit, which X25519 ignores. The list is the one at cr.yp.to/ecdh.html. */
static void public_keys_of_small_order_are_refused(void) {
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    for (size_t i = 0; i < 2 * sizeof points / sizeof points[0]; i++) {
        pair p;
        uint8_t message[MESSAGE] = {0};
        uint8_t payload[1];
        begin(&p, TP_SUITE_AES_256_GCM, NULL);
        REQUIRE(tp_key_parse(points[i / 2], message));
        message[TP_KEY_SIZE - 1] = (uint8_t)(message[TP_KEY_SIZE - 1] | (i % 2 ? 0x80 : 0));
        CHECK_EQ(tp_noise_read(&p.responder, message, MESSAGE, payload), TP_ERR_AUTH);
        CHECK_EQ(tp_noise_write(&p.responder, NULL, 0, message), TP_ERR_STATE);
        /* As a gateway's static key, which a client was made to use. */
        REQUIRE(tp_key_parse(points[i / 2], message));
        REQUIRE(tp_noise_begin_initiator(
                    &p.initiator, TP_SUITE_AES_256_GCM, NULL, NULL, 0, message) == TP_OK);
        CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, message), TP_ERR_AUTH);
        /* In the second message. */
        begin(&p, TP_SUITE_AES_256_GCM, NULL);
        CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, message), TP_OK);
        REQUIRE(tp_key_parse(points[i / 2], message));
        CHECK_EQ(tp_noise_read(&p.initiator, message, MESSAGE, payload), TP_ERR_AUTH);
    }
}

/* Used secrets are wiped: after the end only the chaining key is left, until the wipe. */
static void used_secrets_are_wiped(void) {
    pair p;
    uint8_t psk[TP_KEY_SIZE];
    uint8_t message[MESSAGE];
    fixture_draw_key(psk);
    begin(&p, TP_SUITE_AES_256_GCM, psk);
    CHECK(!fixture_all_zero(p.responder.psk, TP_KEY_SIZE));
    CHECK(!fixture_all_zero(p.responder.static_private, TP_KEY_SIZE));
    CHECK_EQ(tp_noise_write(&p.initiator, NULL, 0, message), TP_OK);
    CHECK(fixture_all_zero(p.initiator.psk, TP_KEY_SIZE));
    CHECK(!fixture_all_zero(p.initiator.ephemeral_private, TP_KEY_SIZE));
    CHECK_EQ(tp_noise_read(&p.responder, message, MESSAGE, message), TP_OK);
    CHECK(fixture_all_zero(p.responder.psk, TP_KEY_SIZE));
    CHECK(fixture_all_zero(p.responder.static_private, TP_KEY_SIZE));
    CHECK_EQ(tp_noise_write(&p.responder, NULL, 0, message), TP_OK);
    CHECK_EQ(tp_noise_read(&p.initiator, message, MESSAGE, message), TP_OK);
    for (unsigned i = 0; i < 2; i++) {
        tp_noise *noise = i == 0 ? &p.initiator : &p.responder;
        CHECK(fixture_all_zero(noise->ephemeral_private, TP_KEY_SIZE));
        CHECK(fixture_all_zero(noise->cipher_key, TP_KEY_SIZE));
        CHECK(!fixture_all_zero(noise->chaining_key, TP_KEY_SIZE));
        tp_noise_wipe(noise);
        noise->failed = false;
        CHECK(fixture_all_zero(noise, sizeof *noise));
    }
}

CHECK_MAIN(CASE(both_sides_have_the_same_keys), CASE(both_sides_need_the_same_psk),
    CASE(both_sides_need_the_same_prologue), CASE(messages_are_taken_in_their_order_only),
    CASE(a_handshake_begins_with_valid_arguments_only),
    CASE(public_keys_of_small_order_are_refused), CASE(used_secrets_are_wiped))
