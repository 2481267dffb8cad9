/*
 * What is left of the secrets in this process's own memory: every writable page is searched for them, first
 * while they live (the search must find them), then after all was closed (it must not).
 *
 * The test itself keeps them only inverted, and looks for halves, so that a copy in a vector register that
 * was put on the stack is found too.
 */
#include "os/compiler.h"
#include "secure_stage.h"

#define HALF (TP_KEY_SIZE / 2)

/* ---- what is looked for ----------------------------------------------------------------------------- */

typedef struct needle {
    const char *name;
    uint8_t inverted[TP_KEY_SIZE];
    unsigned found;
} needle;

static needle needles[24];
static unsigned needle_count;
static bool begins_one[256]; /* a byte with which a half begins: most bytes of memory do not */

/* Byte by byte, and no compiler sees a copy in it. */
static void remember(const char *name, const volatile uint8_t *secret) {
    REQUIRE(needle_count < sizeof needles / sizeof needles[0]);
    needle *n = &needles[needle_count++];
    n->name = name;
    for (unsigned i = 0; i < TP_KEY_SIZE; i++) {
        n->inverted[i] = (uint8_t)~secret[i];
    }
    begins_one[secret[0]] = begins_one[secret[HALF]] = true;
}

static void forget(void) {
    needle_count = 0;
    memset(begins_one, 0, sizeof begins_one);
}

static bool is_half(const uint8_t *at, const uint8_t *inverted) {
    unsigned i = 0;
    while (i < HALF && (at[i] ^ inverted[i]) == 0xff) {
        i++;
    }
    return i == HALF;
}

static void look_at(const uint8_t *bytes, size_t size) {
    for (size_t at = 0; at + HALF <= size; at++) {
        for (unsigned n = 0; begins_one[bytes[at]] && n < needle_count; n++) {
            needles[n].found += is_half(bytes + at, needles[n].inverted) ||
                                is_half(bytes + at, needles[n].inverted + HALF);
        }
    }
}

/* ---- where ---------------------------------------------------------------------------------------------- */

#define PIECE     65536u
#define TOO_LARGE (UINT64_C(1) << 32) /* a sanitizer's shadow, not a heap */

/* The window on other memory, which is not searched itself and is empty between searches. */
static uint8_t window[PIECE + HALF];

static void look_through(FILE *memory, uint64_t from, uint64_t to) {
    uint64_t own = (uintptr_t)window;
    while (from < to) {
        uint64_t size = to - from < sizeof window ? to - from : sizeof window;
        uint64_t step = to - from < PIECE ? to - from : PIECE;
        if (from < own + sizeof window && own < from + size) {
            if (from >= own) {
                from = own + sizeof window;
                continue;
            }
            size = step = own - from;
        }
        if (fseek(memory, (long)from, SEEK_SET) != 0 || fread(window, 1, size, memory) != size) {
            clearerr(memory); /* a page that cannot be read */
        } else {
            look_at(window, size);
        }
        from += step;
    }
    tp_secure_wipe(window, sizeof window);
}

/* Searches all that is writable; false if that cannot be done here. */
static bool search(void) {
#ifdef TP_ADDRESS_SANITIZER
    return false; /* it keeps frames aside, out of everybody's reach */
#endif
    static char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    FILE *memory = fopen("/proc/self/mem", "rb");
    for (unsigned n = 0; n < needle_count; n++) {
        needles[n].found = 0;
    }
    if (maps == NULL || memory == NULL) {
        return false; /* and what was opened ends with the process */
    }
    setvbuf(memory, NULL, _IONBF, 0); /* or a buffer would hold what was looked at */
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t from;
        uint64_t to;
        char rights[5];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, rights) == 3 &&
            rights[0] == 'r' && rights[1] == 'w' && to - from < TOO_LARGE) {
            look_through(memory, from, to);
        }
    }
    fclose(memory);
    fclose(maps);
    return true;
}

/* ---- two sides of a session ------------------------------------------------------------------------------ */

typedef struct session {
    secure_stage stage;
    tp_noise client;
    tp_hello hello;
    tp_session_keys server;
    tp_reply reply;
    tp_record_direction directions[4];
} session;

static session live;

static void remember_psk_and_mac_key(void) {
    uint8_t derived[TP_KEY_SIZE];
    REQUIRE(tp_token_psk(live.stage.secret, derived) == TP_OK);
    remember("psk", derived);
    REQUIRE(tp_token_mac_key(live.stage.secret, derived) == TP_OK);
    remember("mac1's key", derived);
    tp_secure_wipe(derived, sizeof derived);
}

static void log_in(tp_suite suite) {
    uint8_t hello[TP_HELLO_MAX];
    uint8_t reply[TP_REPLY_WELCOME];
    stage_draw(&live.stage);
    remember("the gateway's private key", live.stage.gateway.pair.private_key);
    remember("a key of the ring", live.stage.ring[1].key);
    remember("S", live.stage.secret);
    remember_psk_and_mac_key();
    stage_hello(&live.stage, suite, TP_MODE_TOKEN, &live.client, hello);
    remember("the client's ephemeral key", live.client.ephemeral_private);
    remember("the chaining key", live.client.chaining_key);
    REQUIRE(stage_check(&live.stage, TP_MODE_TOKEN, hello, &live.hello) == TP_OK);
    REQUIRE(tp_hello_answer(&live.hello, &live.stage.gateway, &stage_terms, reply, &live.server) ==
            TP_OK);
    REQUIRE(tp_reply_read(&live.client, reply, sizeof reply, &live.reply) == TP_OK);
    remember("the key to the client", live.server.send);
    remember("the key to the server", live.server.receive);
}

/* Some records each way, with a change of key among them. */
static void talk(tp_record_direction *sealing, tp_record_direction *opening) {
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

/* As it is done when a session ends, and at last with the server. */
static void close_session(void) {
    for (unsigned i = 0; i < 4; i++) {
        tp_record_destroy(&live.directions[i]);
    }
    tp_secure_wipe(&live.hello, sizeof live.hello);
    tp_secure_wipe(&live.server, sizeof live.server);
    tp_secure_wipe(&live.reply, sizeof live.reply);
    tp_secure_wipe(&live.stage, sizeof live.stage);
}

/* ---- the cases ---------------------------------------------------------------------------------------------- */

static const char *const short_lived[] = {
    "psk", "mac1's key", "the client's ephemeral key", "the chaining key"};

/* Has it served by the time the session is there? */
static bool has_served(const char *name) {
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
            FAIL("a secret is not where it should be");
        }
    }
}

static bool is_alive(const char *name) {
    return !has_served(name);
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
    stage_draw(&live.stage);
    remember("S", live.stage.secret);
    remember_psk_and_mac_key();
    stage_hello(&live.stage, TP_SUITE_AES_256_GCM, TP_MODE_TOKEN, &live.client, hello);
    remember("the client's ephemeral key", live.client.ephemeral_private);
    hello[TP_HELLO_TOKEN - 1] ^= 1;
    CHECK_EQ(stage_check(&live.stage, TP_MODE_TOKEN, hello, &live.hello), TP_ERR_AUTH);
    CHECK_EQ(tp_reply_read(&live.client, reply, sizeof reply, &live.reply), TP_ERR_AUTH);
    tp_secure_wipe(&live.stage, sizeof live.stage);
}

/* Each function's first call goes through the dynamic linker, which saves all vector registers on the stack
 * with whatever was last copied through them. So everything is done once before it counts. */
static void warm(void) {
    log_in(TP_SUITE_CHACHA20_POLY1305);
    open_directions(TP_SUITE_CHACHA20_POLY1305);
    talk(&live.directions[0], &live.directions[1]);
    close_session();
    forget();
    refuse_login();
    (void)search();
    forget();
}

static void nothing_stays(tp_suite suite) {
    warm();
    tp_record_test_rekey_interval(4);
    log_in(suite);
    open_directions(suite);
    if (!search()) {
        SKIP("no /proc/self/mem, or an address sanitizer");
    }
    expect_found("alive", is_alive);

    /* The server's keys are only in the ciphers now. */
    tp_secure_wipe(&live.hello, sizeof live.hello);
    tp_secure_wipe(&live.server, sizeof live.server);
    tp_secure_wipe(&live.reply, sizeof live.reply);
    tp_secure_wipe(&live.stage, sizeof live.stage);
    REQUIRE(search());
    expect_found("in the ciphers", is_record_key);

    talk(&live.directions[0], &live.directions[1]);
    talk(&live.directions[2], &live.directions[3]);
    REQUIRE(search());
    expect_found("after a change of key", is_none);

    close_session();
    REQUIRE(search());
    expect_found("closed", is_none);
    tp_record_test_rekey_interval(0);
}

/* Closed without a change of key, by the ciphers' end alone. */
static void closing_is_enough(tp_suite suite) {
    warm();
    log_in(suite);
    open_directions(suite);
    close_session();
    if (!search()) {
        SKIP("no /proc/self/mem, or an address sanitizer");
    }
    expect_found("closed at once", is_none);
}

/* A login that is refused leaves nothing either. */
static void refused_login(void) {
    warm();
    refuse_login();
    if (!search()) {
        SKIP("no /proc/self/mem, or an address sanitizer");
    }
    expect_found("refused", is_none);
}

static void nothing_stays_of_aes(void) {
    nothing_stays(TP_SUITE_AES_256_GCM);
}

static void nothing_stays_of_chacha(void) {
    nothing_stays(TP_SUITE_CHACHA20_POLY1305);
}

static void closing_is_enough_for_aes(void) {
    closing_is_enough(TP_SUITE_AES_256_GCM);
}

static void closing_is_enough_for_chacha(void) {
    closing_is_enough(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(nothing_stays_of_aes), CASE(nothing_stays_of_chacha),
    CASE(closing_is_enough_for_aes), CASE(closing_is_enough_for_chacha), CASE(refused_login))
