/*
 * Our side of the comparison with another implementation (secure_peer.mjs). It reads one command a
 * line from standard input and writes the result to standard output. Bytes are in hexadecimal, "-"
 * for none; an error is its number behind an exclamation mark.
 *
 *     interval N                                 of REKEY
 *     sealing SUITE KEY | opening SUITE KEY      a direction; there is one of each
 *     counter N                                  of both
 *     seal PLAIN | open RECORD
 *     mint RING_ID RING_KEY EXPIRY SERVER_PUBLIC ACCOUNT FLAGS USER_DATA
 *                                                gives token and S
 *     hello SUITE SERVER_PUBLIC TOKEN SECRET
 *     reply BYTES                                gives minor, heartbeat, payload, session, send,
 *                                                receive
 *     serve MODE PRIVATE RING_ID RING_KEY NOW HELLO MINOR HEARTBEAT PAYLOAD SESSION
 *                                                gives REPLY, send, receive, account, flags, user
 *                                                data
 */
#include "check.h"

#include "proto/handshake.h"
#include "proto/record.h"
#include "tests/record_rules.h"

#define WORDS 12

static char *words[WORDS]; /* the command and its arguments */
static unsigned word_count;

static tp_record_direction sealing;
static tp_record_direction opening;
static tp_noise noise;

/* ---- words ----------------------------------------------------------------------------------- */

static uint64_t number(unsigned i) {
    REQUIRE(i < word_count);
    return strtoull(words[i], NULL, 10);
}

/* Word `i` as bytes; returns their count. */
static size_t bytes(unsigned i, uint8_t *into, size_t capacity) {
    REQUIRE(i < word_count);
    if (strcmp(words[i], "-") == 0) {
        return 0;
    }
    size_t size = strlen(words[i]) / 2;
    REQUIRE(strlen(words[i]) % 2 == 0 && size <= capacity);
    for (size_t at = 0; at < size; at++) {
        const char pair[3] = {words[i][2 * at], words[i][2 * at + 1], '\0'};
        into[at] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return size;
}

static void exactly(unsigned i, uint8_t *into, size_t size) {
    REQUIRE(bytes(i, into, size) == size);
}

static void print_bytes(const void *from, size_t size) {
    const uint8_t *at = from;
    for (size_t i = 0; i < size; i++) {
        printf("%02x", at[i]);
    }
    printf(" ");
}

static bool print_error(tp_err error) {
    if (error) {
        printf("!%d", (int)error);
    }
    return error != TP_OK;
}

/* ---- commands -------------------------------------------------------------------------------- */

static void set_interval(void) {
    test_record_rekey_interval(number(1));
}

static void make_direction(tp_record_direction *direction,
    tp_err (*create)(tp_record_direction *, tp_suite, const uint8_t *)) {
    uint8_t key[TP_KEY_SIZE];
    exactly(2, key, sizeof key);
    tp_record_destroy(direction);
    print_error(create(direction, (tp_suite)number(1), key));
}

static void make_sealing(void) {
    make_direction(&sealing, tp_record_create_sealing);
}

static void make_opening(void) {
    make_direction(&opening, tp_record_create_opening);
}

static void set_counter(void) {
    sealing.counter = opening.counter = number(1);
}

static void seal(void) {
    static uint8_t record[TP_RECORD_HEADER + TP_RECORD_MAX];
    size_t size = bytes(1, record + TP_RECORD_HEADER, TP_RECORD_PLAIN_MAX);
    if (!print_error(tp_record_seal(&sealing, record, size))) {
        print_bytes(record, size + TP_RECORD_OVERHEAD);
    }
}

static void open_record(void) {
    static uint8_t record[TP_RECORD_HEADER + TP_RECORD_MAX];
    size_t size = bytes(1, record, sizeof record);
    size_t length = tp_record_length(record);
    REQUIRE(length + TP_RECORD_HEADER == size);
    if (!print_error(tp_record_open(&opening, record + 2, length, record))) {
        print_bytes(record, length - TP_SECRET_TAG);
    }
}

static void mint(void) {
    tp_token_key key = {.id = (uint8_t)number(1)};
    tp_identity identity = {
        .size = sizeof identity, .account = number(5), .flags = (uint32_t)number(6)};
    uint8_t server_public[TP_KEY_SIZE];
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    exactly(2, key.key, sizeof key.key);
    exactly(4, server_public, sizeof server_public);
    exactly(7, identity.user_data, sizeof identity.user_data);
    if (!print_error(tp_token_mint(&key, number(3), server_public, &identity, token, secret))) {
        print_bytes(token, sizeof token);
        print_bytes(secret, sizeof secret);
    }
}

static void write_hello(void) {
    uint8_t server_public[TP_KEY_SIZE];
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    uint8_t hello[TP_HELLO_MAX];
    size_t written = 0;
    exactly(2, server_public, sizeof server_public);
    bool with_token = bytes(3, token, sizeof token) > 0 && bytes(4, secret, sizeof secret) > 0;
    const tp_client_hello options = {.size = sizeof options,
        .suite = (tp_suite)number(1),
        .server_public = server_public,
        .token = with_token ? token : NULL,
        .secret = with_token ? secret : NULL};
    if (!print_error(tp_hello_write(&options, &noise, hello, &written))) {
        print_bytes(hello, written);
    }
}

static void read_reply(void) {
    uint8_t given[TP_REPLY_WELCOME];
    tp_reply reply;
    if (!print_error(tp_reply_read(&noise, given, bytes(1, given, sizeof given), &reply))) {
        const tp_reply_terms *terms = &reply.terms;
        printf("%u %u %" PRIu32 " %" PRIu64 " ", terms->minor_version, terms->heartbeat_seconds,
            terms->max_payload, terms->session);
        print_bytes(reply.keys.send, TP_KEY_SIZE);
        print_bytes(reply.keys.receive, TP_KEY_SIZE);
    }
}

static void serve(void) {
    tp_mode mode = (tp_mode)number(1);
    uint8_t private_key[TP_KEY_SIZE];
    uint8_t given[TP_HELLO_MAX];
    uint8_t reply[TP_REPLY_WELCOME];
    tp_gateway_key key;
    tp_token_key ring = {.id = (uint8_t)number(3)};
    tp_hello hello;
    tp_session_keys keys;
    const tp_reply_terms terms = {
        (uint16_t)number(7), (uint16_t)number(8), (uint32_t)number(9), number(10)};
    exactly(2, private_key, sizeof private_key);
    exactly(4, ring.key, sizeof ring.key);
    exactly(6, given, tp_hello_size(mode));
    REQUIRE(tp_gateway_key_from_private(private_key, &key) == TP_OK);
    tp_err error = tp_hello_check(given, mode, &key, &ring, 1, number(5), &hello);
    if (!print_error(error ? error : tp_hello_answer(&hello, &key, &terms, reply, &keys))) {
        print_bytes(reply, sizeof reply);
        print_bytes(keys.send, TP_KEY_SIZE);
        print_bytes(keys.receive, TP_KEY_SIZE);
        printf(
            "%" PRIu64 " %" PRIu32 " ", hello.token.identity.account, hello.token.identity.flags);
        print_bytes(hello.token.identity.user_data, TP_TOKEN_USER_DATA);
    }
}

/* ---- lines ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} commands[] = {{"interval", set_interval}, {"sealing", make_sealing}, {"opening", make_opening},
    {"counter", set_counter}, {"seal", seal}, {"open", open_record}, {"mint", mint},
    {"hello", write_hello}, {"reply", read_reply}, {"serve", serve}};

static void run_line(char *line) {
    word_count = 0;
    for (char *word = strtok(line, " \r\n"); word != NULL && word_count < WORDS;
         word = strtok(NULL, " \r\n")) {
        words[word_count++] = word;
    }
    for (size_t i = 0; word_count > 0 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(words[0], commands[i].name) == 0) {
            commands[i].run();
            printf("\n");
            fflush(stdout);
            return;
        }
    }
    FAIL("no such command");
}

int main(void) {
    static char line[2 * TP_RECORD_MAX + 1024];
    while (fgets(line, sizeof line, stdin) != NULL) {
        run_line(line);
    }
    tp_record_destroy(&sealing);
    tp_record_destroy(&opening);
    return atomic_load(&check_failures) > 0;
}
