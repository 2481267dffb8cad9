/*
 * Secrets in this process's own memory (secret_search.h): while they are in use they are found in
 * it, and after the session is closed they are not.
 *
 * The first check shows that the search works.
 */
#include "secret_search.h"
#include "secure_fixture.h"
#include "tests/record_rules.h"

/* ---- two sides of a session ------------------------------------------------------------------ */

typedef struct session {
    secure_fixture fixture;
    tp_noise client;
    tp_hello hello;
    tp_session_keys server;
    tp_reply reply;
    tp_record_direction directions[4];
} session;

static session live;

/* A key, and the block that HMAC derives from it. */
static void remember_hmac_key(const char *name, const uint8_t *key) {
    uint8_t masked[TP_KEY_SIZE];
    static const uint8_t masks[] = {0, 0x36, 0x5c};
    for (unsigned m = 0; m < sizeof masks; m++) {
        for (unsigned i = 0; i < TP_KEY_SIZE; i++) {
            masked[i] = key[i] ^ masks[m];
        }
        remember(m == 0 ? name : "a key in HMAC's block", masked);
    }
    tp_secure_wipe(masked, sizeof masked);
}

static void remember_psk_and_mac_key(void) {
    uint8_t derived[TP_KEY_SIZE];
    REQUIRE(tp_token_psk(live.fixture.secret, derived) == TP_OK);
    remember("psk", derived);
    REQUIRE(tp_token_mac_key(live.fixture.secret, derived) == TP_OK);
    remember("mac1's key", derived);
    tp_secure_wipe(derived, sizeof derived);
}

static void log_in(tp_suite suite) {
    uint8_t hello[TP_HELLO_MAX];
    uint8_t reply[TP_REPLY_WELCOME];
    fixture_draw(&live.fixture);
    remember("the gateway's private key", live.fixture.gateway.pair.private_key);
    remember_hmac_key("a key of the ring", live.fixture.ring[1].key);
    remember_hmac_key("S", live.fixture.secret);
    remember_psk_and_mac_key();
    fixture_hello(&live.fixture, suite, TP_MODE_TOKEN, &live.client, hello);
    remember("the client's ephemeral key", live.client.ephemeral_private);
    remember("the chaining key", live.client.chaining_key);
    REQUIRE(fixture_check(&live.fixture, TP_MODE_TOKEN, hello, &live.hello) == TP_OK);
    REQUIRE(tp_hello_answer(
                &live.hello, &live.fixture.gateway, &fixture_terms, reply, &live.server) == TP_OK);
    REQUIRE(tp_reply_read(&live.client, reply, sizeof reply, &live.reply) == TP_OK);
    remember("the key to the client", live.server.send);
    remember("the key to the server", live.server.receive);
}

/* Records in each direction, with a change of key among them. */
static void exchange_records(tp_record_direction *sealing, tp_record_direction *opening) {
    uint8_t record[TP_RECORD_OVERHEAD + 64] = {0};
    for (unsigned i = 0; i < 6; i++) {
        REQUIRE(tp_record_seal(sealing, record, 64) == TP_OK);
        REQUIRE(tp_record_open(opening, record + 2, 80, record + 2) == TP_OK);
    }
}

static void open_directions(tp_suite suite) {
    tp_record_direction *d = live.directions;
    REQUIRE(tp_record_create_sealing(&d[0], suite, live.server.send) == TP_OK);
    REQUIRE(tp_record_create_opening(&d[1], suite, live.reply.keys.receive) == TP_OK);
    REQUIRE(tp_record_create_sealing(&d[2], suite, live.reply.keys.send) == TP_OK);
    REQUIRE(tp_record_create_opening(&d[3], suite, live.server.receive) == TP_OK);
}

/* As a server does when a session ends, and at last for itself. */
static void close_session(void) {
    for (unsigned i = 0; i < 4; i++) {
        tp_record_destroy(&live.directions[i]);
    }
    tp_secure_wipe(&live.hello, sizeof live.hello);
    tp_secure_wipe(&live.server, sizeof live.server);
    tp_secure_wipe(&live.reply, sizeof live.reply);
    tp_secure_wipe(&live.fixture, sizeof live.fixture);
}

/* ---- the cases ------------------------------------------------------------------------------- */

static const char *const short_lived[] = {
    "psk", "mac1's key", "a key in HMAC's block", "the client's ephemeral key", "the chaining key"};

/* Whether a secret of this name is no longer needed when the session is established. */
static bool is_short_lived(const char *name) {
    for (unsigned i = 0; i < sizeof short_lived / sizeof short_lived[0]; i++) {
        if (strcmp(name, short_lived[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void expect_found(const char *when, bool (*expected)(const char *name)) {
    for (unsigned n = 0; n < needle_count; n++) {
        if ((needles[n].found > 0) != expected(needles[n].name)) {
            printf("%s: %s: %u times\n", when, needles[n].name, needles[n].found);
            FAIL("a secret is found, or missing, against the expectation");
        }
    }
}

static bool is_alive(const char *name) {
    return !is_short_lived(name);
}

static bool is_record_key(const char *name) {
    return strncmp(name, "the key to", 10) == 0;
}

static bool is_none(const char *name) {
    (void)name;
    return false;
}

static void refuse_login(void) {
    uint8_t hello[TP_HELLO_MAX];
    uint8_t reply[TP_REPLY_WELCOME] = {0};
    fixture_draw(&live.fixture);
    remember_hmac_key("S", live.fixture.secret);
    remember_psk_and_mac_key();
    fixture_hello(&live.fixture, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &live.client, hello);
    remember("the client's ephemeral key", live.client.ephemeral_private);
    hello[TP_HELLO_TOKEN - 1] ^= 1;
    CHECK_EQ(fixture_check(&live.fixture, TP_MODE_TOKEN, hello, &live.hello), TP_ERR_AUTH);
    CHECK_EQ(tp_reply_read(&live.client, reply, sizeof reply, &live.reply), TP_ERR_AUTH);
    tp_secure_wipe(&live.fixture, sizeof live.fixture);
}

/* The first call of each function goes through the dynamic linker, which saves all vector registers
 * to the stack, with whatever was last copied through them. So everything is called once before the
 * searches. False: memory cannot be searched here. */
static bool warm(void) {
    forget();
    log_in(TP_SUITE_CHACHA20_POLY1305);
    open_directions(TP_SUITE_CHACHA20_POLY1305);
    exchange_records(&live.directions[0], &live.directions[1]);
    close_session();
    forget();
    refuse_login();
    forget();
    return search();
}

#define CANNOT "no /proc/self/mem, or an address sanitizer"

static void check_nothing_stays(tp_suite suite) {
    if (!warm()) {
        SKIP(CANNOT);
    }
    test_record_rekey_interval(4);
    log_in(suite);
    open_directions(suite);
    REQUIRE(search());
    expect_found("alive", is_alive);

    /* From here on the server's keys are in the ciphers only. */
    tp_secure_wipe(&live.hello, sizeof live.hello);
    tp_secure_wipe(&live.server, sizeof live.server);
    tp_secure_wipe(&live.reply, sizeof live.reply);
    tp_secure_wipe(&live.fixture, sizeof live.fixture);
    REQUIRE(search());
    expect_found("in the ciphers", is_record_key);

    exchange_records(&live.directions[0], &live.directions[1]);
    exchange_records(&live.directions[2], &live.directions[3]);
    REQUIRE(search());
    expect_found("after a change of key", is_none);

    close_session();
    REQUIRE(search());
    expect_found("closed", is_none);
    test_record_rekey_interval(0);
}

/* Closed without a change of key after the last record. */
static void check_closing_wipes(tp_suite suite) {
    if (!warm()) {
        SKIP(CANNOT);
    }
    log_in(suite);
    open_directions(suite);
    exchange_records(&live.directions[0], &live.directions[1]);
    exchange_records(&live.directions[2], &live.directions[3]);
    close_session();
    REQUIRE(search());
    expect_found("closed", is_none);
}

/* A session's keys are in its ciphers and nowhere else, not even on the stack between records. */
static void check_records_leave_no_trace(tp_suite suite) {
    unsigned in_ciphers[sizeof needles / sizeof needles[0]];
    if (!warm()) {
        SKIP(CANNOT);
    }
    log_in(suite);
    open_directions(suite);
    tp_secure_wipe(&live.hello, sizeof live.hello);
    tp_secure_wipe(&live.server, sizeof live.server);
    tp_secure_wipe(&live.reply, sizeof live.reply);
    tp_secure_wipe(&live.fixture, sizeof live.fixture);
    REQUIRE(search());
    expect_found("in the ciphers", is_record_key);
    for (unsigned n = 0; n < needle_count; n++) {
        in_ciphers[n] = needles[n].found;
    }
    exchange_records(&live.directions[0], &live.directions[1]);
    exchange_records(&live.directions[2], &live.directions[3]);
    REQUIRE(search());
    for (unsigned n = 0; n < needle_count; n++) {
        CHECK_EQ(needles[n].found, in_ciphers[n]);
    }
    close_session();
}

/* A random key is only where it was asked for, not in the generator, which keeps a block. */
static void a_random_key_leaves_no_copy(void) {
    if (!warm()) {
        SKIP(CANNOT);
    }
    forget();
    fixture_draw(&live.fixture);
    remember("S", live.fixture.secret);
    REQUIRE(search());
    CHECK_GT(needles[0].found, 0);
    tp_secure_wipe(&live.fixture, sizeof live.fixture);
    REQUIRE(search());
    expect_found("drawn", is_none);
}

/* A refused login leaves no secret, either. */
static void a_refused_login_leaves_no_secret(void) {
    if (!warm()) {
        SKIP(CANNOT);
    }
    refuse_login();
    REQUIRE(search());
    expect_found("refused", is_none);
}

static void no_secret_stays_of_an_aes_session(void) {
    check_nothing_stays(TP_SUITE_AES_256_GCM);
}

static void no_secret_stays_of_a_chacha_session(void) {
    check_nothing_stays(TP_SUITE_CHACHA20_POLY1305);
}

static void aes_records_leave_no_key_on_the_stack(void) {
    check_records_leave_no_trace(TP_SUITE_AES_256_GCM);
}

static void chacha_records_leave_no_key_on_the_stack(void) {
    check_records_leave_no_trace(TP_SUITE_CHACHA20_POLY1305);
}

static void closing_an_aes_session_wipes_its_keys(void) {
    check_closing_wipes(TP_SUITE_AES_256_GCM);
}

static void closing_a_chacha_session_wipes_its_keys(void) {
    check_closing_wipes(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(no_secret_stays_of_an_aes_session), CASE(no_secret_stays_of_a_chacha_session),
    CASE(closing_an_aes_session_wipes_its_keys), CASE(closing_a_chacha_session_wipes_its_keys),
    CASE(aes_records_leave_no_key_on_the_stack), CASE(chacha_records_leave_no_key_on_the_stack),
    CASE(a_random_key_leaves_no_copy), CASE(a_refused_login_leaves_no_secret))
