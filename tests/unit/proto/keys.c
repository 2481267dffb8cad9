/*
 * Key pairs and their text form: generation, clamping, public keys by X25519, parsing and wiping.
 */
#include "proto/keys.h"
#include "check.h"

static void generated_pairs_differ(void) {
    tp_key_pair one;
    tp_key_pair other;
    REQUIRE(tp_key_pair_generate(&one) == TP_OK);
    REQUIRE(tp_key_pair_generate(&other) == TP_OK);
    CHECK(memcmp(one.private_key, other.private_key, TP_KEY_SIZE) != 0);
    CHECK(memcmp(one.public_key, other.public_key, TP_KEY_SIZE) != 0);
    CHECK(memcmp(one.private_key, one.public_key, TP_KEY_SIZE) != 0);
}

/* RFC 7748, section 5: the private key is stored clamped, as it is used. */
static void private_keys_are_clamped(void) {
    for (unsigned i = 0; i < 100; i++) {
        tp_key_pair pair;
        REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
        CHECK_EQ(pair.private_key[0] & 0x07, 0);
        CHECK_EQ(pair.private_key[TP_KEY_SIZE - 1] & 0xC0, 0x40);
    }
}

static void the_private_key_gives_the_pair(void) {
    tp_key_pair drawn;
    tp_key_pair again;
    REQUIRE(tp_key_pair_generate(&drawn) == TP_OK);
    CHECK_EQ(tp_key_pair_from_private(drawn.private_key, &again), TP_OK);
    CHECK_MEM(&again, &drawn, sizeof drawn);
    CHECK_EQ(tp_key_pair_from_private(again.private_key, &again), TP_OK); /* in place */
    CHECK_MEM(&again, &drawn, sizeof drawn);
}

/* RFC 7748, section 5.2: X25519(9, 9), the first step of the iterated vector. */
static void the_public_key_is_x25519_of_9(void) {
    uint8_t nine[TP_KEY_SIZE] = {9};
    tp_key_pair pair;
    char text[TP_KEY_TEXT];
    CHECK_EQ(tp_key_pair_from_private(nine, &pair), TP_OK);
    CHECK_STR(tp_key_format(pair.public_key, text),
        "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
}

static void a_key_survives_the_way_through_text(void) {
    uint8_t key[TP_KEY_SIZE];
    uint8_t parsed[TP_KEY_SIZE];
    char text[TP_KEY_TEXT];
    for (unsigned first = 0; first < 256; first += TP_KEY_SIZE) {
        for (unsigned i = 0; i < TP_KEY_SIZE; i++) {
            key[i] = (uint8_t)(first + i);
        }
        CHECK(tp_key_format(key, text) == text);
        CHECK_EQ(strlen(text), 2 * TP_KEY_SIZE);
        CHECK_EQ(strspn(text, "0123456789abcdef"), 2 * TP_KEY_SIZE);
        CHECK(tp_key_parse(text, parsed));
        CHECK_MEM(parsed, key, TP_KEY_SIZE);
        for (char *c = text; *c != '\0'; c++) {
            *c = (char)(*c >= 'a' ? *c - 'a' + 'A' : *c);
        }
        CHECK(tp_key_parse(text, parsed));
        CHECK_MEM(parsed, key, TP_KEY_SIZE);
    }
}

static void expect_no_key(const char *text) {
    static const uint8_t zero[TP_KEY_SIZE];
    uint8_t key[TP_KEY_SIZE];
    memset(key, 0x5a, sizeof key);
    CHECK(!tp_key_parse(text, key));
    CHECK_MEM(key, zero, TP_KEY_SIZE);
}

static void wrong_text_is_refused(void) {
    char text[TP_KEY_TEXT + 1];
    for (size_t length = 0; length <= TP_KEY_TEXT; length++) {
        if (length != 2 * TP_KEY_SIZE) {
            memset(text, 'f', length);
            text[length] = '\0';
            expect_no_key(text);
        }
    }
    text[2 * TP_KEY_SIZE] = '\0';
    for (size_t place = 0; place < 2 * TP_KEY_SIZE; place++) {
        for (const char *wrong = "/:@G`g \n-+x\x80"; *wrong != '\0'; wrong++) {
            memset(text, 'f', 2 * TP_KEY_SIZE);
            text[place] = *wrong;
            expect_no_key(text);
        }
    }
}

static void wipe_clears_a_pair(void) {
    static const uint8_t zero[TP_KEY_SIZE];
    uint8_t bytes[TP_KEY_SIZE + 1];
    memset(bytes, 0x5a, sizeof bytes);
    tp_secure_wipe(NULL, 7);
    tp_secure_wipe(bytes, 0);
    CHECK_EQ(bytes[0], 0x5a);
    tp_secure_wipe(bytes, TP_KEY_SIZE);
    CHECK_MEM(bytes, zero, TP_KEY_SIZE);
    CHECK_EQ(bytes[TP_KEY_SIZE], 0x5a);
    CHECK_EQ(tp_secure_init(), TP_OK);
    CHECK_EQ(tp_secure_init(), TP_OK);
}

CHECK_MAIN(CASE(generated_pairs_differ), CASE(private_keys_are_clamped),
    CASE(the_private_key_gives_the_pair), CASE(the_public_key_is_x25519_of_9),
    CASE(a_key_survives_the_way_through_text), CASE(wrong_text_is_refused),
    CASE(wipe_clears_a_pair))
