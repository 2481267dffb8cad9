/*
 * The program tp-token: mints connect tokens, for tests and as an example for login services; and
 * generates keys for the key ring that the login service and the gate share.
 *
 *     tp-token --new-key 1 >> ring
 *     tp-token --key-ring ring --key-id 1 --server-key HEX --account 42 --ttl 60
 *
 * A token is printed as two lines of hexadecimal digits: the token, and its secret S. A player's
 * client needs both, and the gate's address and public key. One thread; secrets are wiped.
 *
 * Exit codes:
 *
 *     0  done
 *     1  failed
 *     2  invalid arguments
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

#define KEY_RING_PATH_MAX 1023

typedef struct arguments {
    char key_ring[KEY_RING_PATH_MAX + 1];
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

/* Required numbers that may be 0 are texts here, so that a missing one is recognised. */
/* clang-format off */
static const tp__setting table[] = {
    {"key-ring", TP__SETTING_TEXT, AT(key_ring), 0, KEY_RING_PATH_MAX, NULL, "", NULL,
        "The file with the key ring, which the gates have too."},
    {"key-id", TP__SETTING_TEXT, AT(key_id), 0, 3, NULL, "", NULL,
        "The id of the key in it to use, 0 to 255."},
    {"server-key", TP__SETTING_TEXT, AT(server_key), 0, TP_KEY_TEXT - 1, NULL, "", NULL,
        "The public key of the gate that the token is for, 64 hexadecimal digits."},
    {"account", TP__SETTING_TEXT, AT(account), 0, 20, NULL, "", NULL,
        "The account, a number up to 2^64 - 1."},
    {"ttl", TP__SETTING_COUNT, AT(ttl), 0, TP_TOKEN_LIFE_MAX, NULL, "0", NULL,
        "How many seconds from now the token may be used, 1 or more. A minute is plenty; a gate\n"
        "refuses more than its max_token_life, by default 3600."},
    {"flags", TP__SETTING_COUNT, AT(flags), 0, UINT32_MAX, NULL, "0", NULL,
        "The flags of the identity."},
    {"user-data", TP__SETTING_TEXT, AT(user_data), 0, 2 * TP_TOKEN_USER_DATA, NULL, "", NULL,
        "The user data of the identity in hexadecimal digits, up to 48 bytes; the rest is zero."},
    {"new-key", TP__SETTING_TEXT, AT(new_key), 0, 3, NULL, "", NULL,
        "Print a line for a key ring instead of a token: this id, 0 to 255, and a new key."},
    {"version", TP__SETTING_BOOL, AT(version), 0, 0, NULL, "no", NULL,
        "Print the version and exit."},
    {"help", TP__SETTING_BOOL, AT(help), 0, 0, NULL, "no", NULL,
        "Print this help and exit."},
};
/* clang-format on */

#define OPTIONS (sizeof table / sizeof table[0])

static int usage_error(const char *what) {
    fprintf(stderr, "%s: %s\n", name, what);
    return 2;
}

static void print_help(void) {
    fputs(
        "usage: tp-token --key-ring FILE --key-id N --server-key HEX --account N --ttl SECONDS\n"
        "       tp-token --new-key N\n\n"
        "Mints a connect token for a wanserver. Prints the token and its secret, a line each.\n\n",
        stdout);
    tp__options_print_help(table, OPTIONS, stdout);
}

/* Reads a number of digits alone; false if `text` is none, or above `most`. */
static bool number_read(const char *text, uint64_t most, uint64_t *number) {
    const tp__setting setting = {.kind = TP__SETTING_COUNT, .max = most};
    return tp__setting_read(&setting, text, number) == TP_OK;
}

/* Reads an even number of hexadecimal digits; the bytes behind those that are read stay
 * unchanged. */
static bool hex_read(const char *text, uint8_t *bytes) {
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

/* ---- keys ------------------------------------------------------------------------------------ */

static int print_new_key(const char *id_text) {
    uint64_t id;
    if (!number_read(id_text, TP__KEY_RING_MAX - 1, &id)) {
        return usage_error("--new-key: expected an id from 0 to 255");
    }
    uint8_t key[TP_KEY_SIZE];
    tp_random_bytes(key, sizeof key);
    printf("%u ", (unsigned)id);
    print_hex(key, sizeof key);
    tp_secure_wipe(key, sizeof key);
    return 0;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static int print_token(const tp_token_key *key, uint64_t ttl, const uint8_t server_key[TP_KEY_SIZE],
    const tp_identity *identity) {
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    uint64_t expiry = tp_clock_wall_ms() / 1000 + ttl;
    tp_err error = tp_token_mint(key, expiry, server_key, identity, token, secret);
    if (error) {
        return tp__program_fail(name, "cannot mint a token", error);
    }
    print_hex(token, sizeof token);
    print_hex(secret, sizeof secret);
    tp_secure_wipe(secret, sizeof secret);
    return 0;
}

/* Not an error: the gate may be configured to accept it. */
static void warn_if_long(uint64_t ttl) {
    if (ttl > TP_TOKEN_LIFE) {
        tp__program_print_error(name,
            "--ttl: gates refuse tokens that live longer than %u s unless max_token_life allows it",
            TP_TOKEN_LIFE);
    }
}

static int mint(const arguments *given) {
    uint64_t id;
    uint8_t server_key[TP_KEY_SIZE];
    tp_identity identity = {.size = sizeof identity, .flags = (uint32_t)given->flags};
    if (given->key_ring[0] == '\0') {
        return usage_error(
            "--key-ring is missing: expected the key ring's file; --help lists the options");
    }
    if (!number_read(given->key_id, TP__KEY_RING_MAX - 1, &id)) {
        return usage_error("--key-id: expected an id from 0 to 255");
    }
    if (!tp_key_parse(given->server_key, server_key)) {
        return usage_error("--server-key: expected 64 hexadecimal digits");
    }
    if (!number_read(given->account, UINT64_MAX, &identity.account)) {
        return usage_error("--account: expected a whole number");
    }
    if (given->ttl == 0) {
        return usage_error("--ttl: expected a number of seconds, 1 or more");
    }
    if (!hex_read(given->user_data, identity.user_data)) {
        return usage_error("--user-data: expected hexadecimal digits, two for each byte");
    }
    warn_if_long(given->ttl);
    static tp__key_ring ring;
    char report[TP__CONFIG_REPORT];
    if (tp__key_ring_load(given->key_ring, &ring, report, sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    if (report[0] != '\0') {
        tp__program_print_report(report); /* ids that are given twice */
    }
    const tp_token_key *key = tp__key_ring_find(&ring, (unsigned)id);
    int code = key != NULL ? print_token(key, given->ttl, server_key, &identity)
                           : usage_error("--key-id: the key ring has no such key");
    tp__key_ring_wipe(&ring);
    return code;
}

static int token_tool_run(const arguments *given) {
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
        tp__program_print_report(report);
        return 2;
    }
    int code = token_tool_run(&given);
    return code == 0 ? tp__program_finish_output(name) : code;
}
