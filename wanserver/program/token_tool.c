/*
 * tp-token: mints connect tokens, for tests and for login services to learn from; and keys for the
 * ring that both sides share.
 *
 *     tp-token --new-key 1 >> ring
 *     tp-token --key-ring ring --key-id 1 --server-key HEX --account 42 --ttl 60
 *
 * A token is printed as two lines of hexadecimal digits: the token, and S, its secret. What a
 * player's client needs, besides the gateway's address and public key, is both. One thread; secrets
 * are wiped.
 *
 * Exit codes: 0 done, 1 could not, 2 told something that cannot be.
 */
#include <stdio.h>
#include <string.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/config/program.h"
#include "os/clock.h"
#include "os/random.h"
#include "proto/keys.h"
#include "proto/token.h"
#include "twinport/version.h"
#include "wanserver/files/key_ring_file.h"

static const char name[] = "tp-token";

typedef struct arguments {
    char key_ring[1024];
    char key_id[4];
    char server_key[TP_KEY_TEXT];
    char account[21];
    uint64_t ttl;
    uint64_t flags;
    char user_data[2 * TP_TOKEN_USER_DATA + 1];
    char new_key[4];
    bool version;
    bool help;
} arguments;

#define AT(field) offsetof(arguments, field)

/* Numbers that may be 0 and must be given, or not, are texts here. */
/* clang-format off */
static const tp__setting table[] = {
    {"key-ring", TP__SETTING_TEXT, AT(key_ring), 0, sizeof((arguments *)NULL)->key_ring - 1, NULL, "", NULL,
        "The key ring's file, which the gateways have too."},
    {"key-id", TP__SETTING_TEXT, AT(key_id), 0, 3, NULL, "", NULL,
        "The id of the key in it to mint with, 0 to 255."},
    {"server-key", TP__SETTING_TEXT, AT(server_key), 0, TP_KEY_TEXT - 1, NULL, "", NULL,
        "The public key of the gateway that the token is for, 64 hexadecimal digits."},
    {"account", TP__SETTING_TEXT, AT(account), 0, 20, NULL, "", NULL,
        "The account, a number up to 2^64 - 1."},
    {"ttl", TP__SETTING_COUNT, AT(ttl), 0, TP_TOKEN_LIFE_MAX, NULL, "0", NULL,
        "The seconds from now in which the token may be used, 1 or more. A minute is plenty; a\n"
        "gateway refuses more than its max_token_life, 3600 unless it is told otherwise."},
    {"flags", TP__SETTING_COUNT, AT(flags), 0, UINT32_MAX, NULL, "0", NULL,
        "The identity's flags."},
    {"user-data", TP__SETTING_TEXT, AT(user_data), 0, 2 * TP_TOKEN_USER_DATA, NULL, "", NULL,
        "The identity's user data in hexadecimal digits, up to 48 bytes; the rest is zero."},
    {"new-key", TP__SETTING_TEXT, AT(new_key), 0, 3, NULL, "", NULL,
        "Instead of a token, print a line for a key ring: this id, 0 to 255, and a new key."},
    {"version", TP__SETTING_BOOL, AT(version), 0, 0, NULL, "no", NULL,
        "Say the version, and end."},
    {"help", TP__SETTING_BOOL, AT(help), 0, 0, NULL, "no", NULL,
        "Say this, and end."},
};
/* clang-format on */

#define OPTIONS (sizeof table / sizeof table[0])

static int wrong(const char *what) {
    fprintf(stderr, "%s: %s\n", name, what);
    return 2;
}

static void print_help(void) {
    fputs(
        "usage: tp-token --key-ring FILE --key-id N --server-key HEX --account N --ttl SECONDS\n"
        "       tp-token --new-key N\n\n"
        "Mints a connect token for a wanserver: prints the token and its secret, a line each.\n\n",
        stdout);
    tp__options_print_help(table, OPTIONS, stdout);
}

/* Digits alone; false if there are none. */
static bool read_number(const char *text, uint64_t most, uint64_t *number) {
    const tp__setting setting = {.kind = TP__SETTING_COUNT, .max = most};
    return tp__setting_read(&setting, text, number) == TP_OK;
}

/* An even number of hexadecimal digits; the bytes behind them stay as they are. */
static bool read_hex(const char *text, uint8_t *bytes) {
    static const char digits[] = "0123456789abcdefABCDEF";
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        const char *found = strchr(digits, text[i]);
        if (length % 2 != 0 || found == NULL) {
            return false;
        }
        size_t value = (size_t)(found - digits);
        value = value < 16 ? value : value - 6;
        bytes[i / 2] = (uint8_t)(i % 2 == 0 ? value << 4 : bytes[i / 2] | value);
    }
    return true;
}

static void print_hex(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        printf("%02x", bytes[i]);
    }
    printf("\n");
}

/* ---- a key ----------------------------------------------------------------------------------- */

static int print_new_key(const char *id_text) {
    uint64_t id;
    if (!read_number(id_text, TP__KEY_RING_MAX - 1, &id)) {
        return wrong("--new-key: expected an id from 0 to 255");
    }
    uint8_t key[TP_KEY_SIZE];
    tp_random_bytes(key, sizeof key);
    printf("%u ", (unsigned)id);
    print_hex(key, sizeof key);
    tp_secure_wipe(key, sizeof key);
    return 0;
}

/* ---- a token --------------------------------------------------------------------------------- */

static int print_token(const tp_token_key *key, uint64_t ttl, const uint8_t server_key[TP_KEY_SIZE],
    const tp_identity *identity) {
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    uint64_t expiry = tp_clock_wall_ms() / 1000 + ttl;
    tp_err error = tp_token_mint(key, expiry, server_key, identity, token, secret);
    if (error) {
        return tp__program_fail(name, "no token can be minted", error);
    }
    print_hex(token, sizeof token);
    print_hex(secret, sizeof secret);
    tp_secure_wipe(secret, sizeof secret);
    return 0;
}

/* Not an error: the gateway may have been told to take it. */
static void warn_if_long(uint64_t ttl) {
    if (ttl > TP_TOKEN_LIFE) {
        tp__program_say(name,
            "--ttl: gateways refuse more than %u s unless their max_token_life is longer",
            TP_TOKEN_LIFE);
    }
}

static int mint(const arguments *given) {
    uint64_t id;
    uint8_t server_key[TP_KEY_SIZE];
    tp_identity identity = {.size = sizeof identity, .flags = (uint32_t)given->flags};
    if (given->key_ring[0] == '\0') {
        return wrong(
            "--key-ring is missing: expected the key ring's file; --help lists the options");
    }
    if (!read_number(given->key_id, TP__KEY_RING_MAX - 1, &id)) {
        return wrong("--key-id: expected an id from 0 to 255");
    }
    if (!tp_key_parse(given->server_key, server_key)) {
        return wrong("--server-key: expected 64 hexadecimal digits");
    }
    if (!read_number(given->account, UINT64_MAX, &identity.account)) {
        return wrong("--account: expected a whole number");
    }
    if (given->ttl == 0) {
        return wrong("--ttl: expected a number of seconds, 1 or more");
    }
    if (!read_hex(given->user_data, identity.user_data)) {
        return wrong("--user-data: expected hexadecimal digits, two for each byte");
    }
    warn_if_long(given->ttl);
    static tp__key_ring ring;
    char report[TP__CONFIG_REPORT];
    if (tp__key_ring_load(given->key_ring, &ring, report, sizeof report) != TP_OK) {
        tp__program_say_report(report);
        return 2;
    }
    if (report[0] != '\0') {
        tp__program_say_report(report); /* what is in it twice */
    }
    const tp_token_key *key = tp__key_ring_find(&ring, (unsigned)id);
    int code = key != NULL ? print_token(key, given->ttl, server_key, &identity)
                           : wrong("--key-id: the key ring has no such key");
    tp__key_ring_wipe(&ring);
    return code;
}

static int do_as_told(const arguments *given) {
    if (given->help) {
        print_help();
        return 0;
    }
    if (given->version) {
        printf("%s %s\n", name, tp_version());
        return 0;
    }
    return given->new_key[0] ? print_new_key(given->new_key) : mint(given);
}

int main(int count, char **words) {
    static arguments given;
    char report[TP__CONFIG_REPORT];
    if (tp__options_read(table, OPTIONS, count - 1, words + 1, &given, report, sizeof report) !=
        TP_OK) {
        tp__program_say_report(report);
        return 2;
    }
    int code = do_as_told(&given);
    return code == 0 ? tp__program_finish_output(name) : code;
}
