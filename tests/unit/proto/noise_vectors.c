/*
 * Published vectors of Noise_NK and Noise_NKpsk0, byte for byte: both handshake messages, and the
 * transport messages as records.
 *
 * All vectors with our ciphers and SHA-256 are taken from the file of the Go library flynn/noise,
 * where Debian's package golang-github-flynn-noise-dev puts it.
 */
#include "check.h"

#include "proto/keys.h"
#include "proto/noise.h"
#include "proto/record.h"
#include "wrapped.h"

#define MESSAGES 8
#define BYTES    512

typedef struct bytes {
    uint8_t at[BYTES];
    size_t size;
    bool there;
} bytes;

typedef struct vector {
    char name[80];
    bytes static_private, initiator_ephemeral, responder_ephemeral, prologue, psk;
    bytes payloads[MESSAGES], ciphertexts[MESSAGES];
} vector;

/* ---- the file -------------------------------------------------------------------------------- */

static bytes parse_hex(const char *text) {
    bytes parsed = {.there = true};
    size_t digits = strlen(text);
    REQUIRE(digits % 2 == 0 && digits / 2 <= BYTES);
    for (; parsed.size < digits / 2; parsed.size++) {
        const char pair[3] = {text[2 * parsed.size], text[2 * parsed.size + 1], '\0'};
        char *end;
        parsed.at[parsed.size] = (uint8_t)strtoul(pair, &end, 16);
        REQUIRE(end == pair + 2);
    }
    return parsed;
}

static void read_message(vector *v, const char *key, const char *value) {
    unsigned long number = strtoul(key + strlen("msg_"), NULL, 10);
    REQUIRE(number < MESSAGES);
    if (strstr(key, "_payload") != NULL) {
        v->payloads[number] = parse_hex(value);
    } else if (strstr(key, "_ciphertext") != NULL) {
        v->ciphertexts[number] = parse_hex(value);
    } else {
        FAIL(key);
    }
}

static void read_line(vector *v, const char *key, const char *value) {
    if (strcmp(key, "handshake") == 0) {
        snprintf(v->name, sizeof v->name, "%s", value);
    } else if (strcmp(key, "resp_static") == 0) {
        v->static_private = parse_hex(value);
    } else if (strcmp(key, "gen_init_ephemeral") == 0) {
        v->initiator_ephemeral = parse_hex(value);
    } else if (strcmp(key, "gen_resp_ephemeral") == 0) {
        v->responder_ephemeral = parse_hex(value);
    } else if (strcmp(key, "prologue") == 0) {
        v->prologue = parse_hex(value);
    } else if (strcmp(key, "preshared_key") == 0) {
        v->psk = parse_hex(value);
    } else if (strncmp(key, "msg_", 4) == 0) {
        read_message(v, key, value);
    }
}

/* Reads up to the next empty line. False at the end of the file. */
static bool read_vector(FILE *file, vector *v) {
    static char line[8192];
    memset(v, 0, sizeof *v);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        char *equals = strchr(line, '=');
        if (equals != NULL) {
            *equals = '\0';
            read_line(v, line, equals + 1);
        } else if (line[0] == '\0' && v->name[0] != '\0') {
            return true;
        }
    }
    return v->name[0] != '\0';
}

/* ---- one vector ------------------------------------------------------------------------------ */

/* The ephemeral keys of a handshake, in the order in which its two messages are written. */
static const uint8_t *ephemeral_keys[2];
static unsigned keys_drawn;

WRAPPED(
    tp_err, tp__agree_generate, uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]);
tp_err __wrap_tp__agree_generate(
    uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]) {
    REQUIRE(keys_drawn < 2);
    tp_key_pair pair;
    tp_err error = tp_key_pair_from_private(ephemeral_keys[keys_drawn++], &pair);
    memcpy(private_key, pair.private_key, TP_KEY_SIZE);
    memcpy(public_key, pair.public_key, TP_KEY_SIZE);
    return error;
}

static void begin_handshake(
    const vector *v, tp_suite suite, tp_noise *initiator, tp_noise *responder) {
    tp_key_pair pair;
    const uint8_t *psk = v->psk.there ? v->psk.at : NULL;
    REQUIRE(tp_key_pair_from_private(v->static_private.at, &pair) == TP_OK);
    REQUIRE(tp_noise_begin_initiator(
                initiator, suite, psk, v->prologue.at, v->prologue.size, pair.public_key) == TP_OK);
    REQUIRE(tp_noise_begin_responder(responder, suite, psk, v->prologue.at, v->prologue.size,
                pair.private_key, pair.public_key) == TP_OK);
    ephemeral_keys[0] = v->initiator_ephemeral.at;
    ephemeral_keys[1] = v->responder_ephemeral.at;
    keys_drawn = 0;
}

static void pass_message(const vector *v, unsigned number, tp_noise *from, tp_noise *to) {
    uint8_t message[BYTES];
    uint8_t payload[BYTES];
    const bytes *said = &v->payloads[number];
    const bytes *expected = &v->ciphertexts[number];
    REQUIRE(said->there && said->size + TP_KEY_SIZE + TP_SECRET_TAG == expected->size);
    CHECK_EQ(tp_noise_write(from, said->at, said->size, message), TP_OK);
    CHECK_MEM(message, expected->at, expected->size);
    CHECK_EQ(tp_noise_read(to, expected->at, expected->size, payload), TP_OK);
    CHECK_MEM(payload, said->at, said->size);
}

static void pass_record(const bytes *said, const bytes *expected, tp_record_direction *sealing,
    tp_record_direction *opening) {
    uint8_t record[TP_RECORD_HEADER + BYTES];
    uint8_t plain[BYTES];
    REQUIRE(said->there && said->size + TP_SECRET_TAG == expected->size);
    memcpy(record + TP_RECORD_HEADER, said->at, said->size);
    CHECK_EQ(tp_record_seal(sealing, record, said->size), TP_OK);
    CHECK_EQ(tp_record_length(record), expected->size);
    CHECK_MEM(record + TP_RECORD_HEADER, expected->at, expected->size);
    CHECK_EQ(tp_record_open(opening, expected->at, expected->size, plain), TP_OK);
    CHECK_MEM(plain, said->at, said->size);
}

/* The messages after the handshake: the initiator's, the responder's, and so on. */
static unsigned pass_records(const vector *v, tp_suite suite, const tp_noise_keys *keys) {
    tp_record_direction sealing[2];
    tp_record_direction opening[2];
    const uint8_t *key[2] = {keys->to_responder, keys->to_initiator};
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(tp_record_create_sealing(&sealing[i], suite, key[i]) == TP_OK);
        REQUIRE(tp_record_create_opening(&opening[i], suite, key[i]) == TP_OK);
    }
    unsigned number = 2;
    for (; number < MESSAGES && v->ciphertexts[number].there; number++) {
        unsigned way = number % 2;
        pass_record(&v->payloads[number], &v->ciphertexts[number], &sealing[way], &opening[way]);
    }
    for (unsigned i = 0; i < 2; i++) {
        tp_record_destroy(&sealing[i]);
        tp_record_destroy(&opening[i]);
    }
    return number - 2;
}

static void run_vector(const vector *v, tp_suite suite) {
    tp_noise initiator;
    tp_noise responder;
    tp_noise_keys keys[2];
    begin_handshake(v, suite, &initiator, &responder);
    pass_message(v, 0, &initiator, &responder);
    pass_message(v, 1, &responder, &initiator);
    REQUIRE(tp_noise_split(&initiator, &keys[0]) == TP_OK);
    REQUIRE(tp_noise_split(&responder, &keys[1]) == TP_OK);
    CHECK_MEM(&keys[0], &keys[1], sizeof keys[0]);
    CHECK_GE(pass_records(v, suite, &keys[0]), 2);
    tp_noise_wipe(&initiator);
    tp_noise_wipe(&responder);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void every_published_vector_is_reproduced(void) {
    static const struct {
        const char *name;
        tp_suite suite;
    } ours[] = {
        {"Noise_NK_25519_AESGCM_SHA256", TP_SUITE_AES_256_GCM},
        {"Noise_NK_25519_ChaChaPoly_SHA256", TP_SUITE_CHACHA20_POLY1305},
        {"Noise_NKpsk0_25519_AESGCM_SHA256", TP_SUITE_AES_256_GCM},
        {"Noise_NKpsk0_25519_ChaChaPoly_SHA256", TP_SUITE_CHACHA20_POLY1305},
    };
    unsigned ran[sizeof ours / sizeof ours[0]] = {0};
    static vector v;
    FILE *file = fopen(NOISE_VECTORS, "r");
    if (file == NULL) {
        SKIP("no " NOISE_VECTORS ": it is in golang-github-flynn-noise-dev");
    }
    while (read_vector(file, &v)) {
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
            if (strcmp(v.name, ours[i].name) == 0) {
                run_vector(&v, ours[i].suite);
                ran[i]++;
            }
        }
    }
    fclose(file);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        printf("%s: %u vectors\n", ours[i].name, ran[i]);
        CHECK_GT(ran[i], 0);
    }
}

CHECK_MAIN(CASE(every_published_vector_is_reproduced))
