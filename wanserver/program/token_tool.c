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
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/config/program.h"
#include "core/config/server_table.h"
#include "os/clock.h"
#include "os/compiler.h"
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
    char ttl[21];
    uint64_t flags;
    char user_data[2 * TP_TOKEN_USER_DATA + 1];
    char new_key[4];
    bool version;
    bool help;
} arguments;

#define AT(field) offsetof(arguments, field)

static_assert(TP_TOKEN_LIFE_MAX == 315360000, "the help and an error name it");

/* Required numbers are texts here, so that a missing one is recognised. */
/* clang-format off */
static const tp__setting token_options[] = {
    {"key-ring", TP__SETTING_TEXT, AT(key_ring), 0, KEY_RING_PATH_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "The key ring, which the gates have too."},
    {"key-id", TP__SETTING_TEXT, AT(key_id), 0, 3, .default_value = "",
        .metavariable = "N", .help =
        "The key of the ring to use: its id, 0 to 255."},
    {"server-key", TP__SETTING_TEXT, AT(server_key), 0, TP_KEY_TEXT - 1, .default_value = "",
        .metavariable = "HEX", .help =
        "The public key of the gate that the token is for,\n"
        "64 digits."},
    {"account", TP__SETTING_TEXT, AT(account), 0, 20, .default_value = "",
        .metavariable = "N", .help =
        "The account, 0 to 2^64 - 1."},
    {"ttl", TP__SETTING_TEXT, AT(ttl), 0, 20, .default_value = "",
        .metavariable = "SECONDS", .help =
        "How long from now the token may be used, 1 to 315360000.\n"
        "A minute is plenty; a gate refuses more than its\n"
        "max_token_life, by default 3600."},
};

static const tp__setting identity_options[] = {
    {"flags", TP__SETTING_COUNT, AT(flags), 0, UINT32_MAX, .default_value = "0", .help =
        "The flags of the identity."},
    {"user-data", TP__SETTING_TEXT, AT(user_data), 0, 2 * TP_TOKEN_USER_DATA, .default_value = "",
        .metavariable = "HEX", .help =
        "The user data of the identity, up to 48 bytes; the\n"
        "rest is zero."},
};

static const tp__setting key_options[] = {
    {"new-key", TP__SETTING_TEXT, AT(new_key), 0, 3, .default_value = "",
        .metavariable = "N", .help =
        "Print a line for a key ring instead of a token: the\n"
        "id N, 0 to 255, and a new key."},
};

static const tp__setting about_options[] = {
    {"help", TP__SETTING_BOOL, AT(help), .default_value = "no", .help =
        "Print this help and exit."},
    {"version", TP__SETTING_BOOL, AT(version), .default_value = "no", .help =
        "Print the version and exit."},
};
/* clang-format on */

static const tp__setting_table *token_tool_table(void) {
    static const tp__setting_group groups[] = {
        {"Token", token_options, TP_COUNT_OF(token_options)},
        {"Identity", identity_options, TP_COUNT_OF(identity_options)},
        {"Key ring", key_options, TP_COUNT_OF(key_options)},
        {TP__GROUP_PROGRAM, about_options, TP_COUNT_OF(about_options)},
        {NULL, NULL, 0},
    };
    static tp__setting_table table;
    if (table.count == 0) {
        tp__setting_table_make(&table, groups, NULL, NULL);
    }
    return &table;
}

static int usage_error(const char *what) {
    fprintf(stderr, "%s: %s\n", name, what);
    return 2;
}

static void print_help(void) {
    const tp__setting_table *table = token_tool_table();
    fputs("Usage: tp-token --key-ring FILE --key-id N --server-key HEX --account N --ttl SECONDS\n"
          "                [--flags N] [--user-data HEX]\n"
          "       tp-token --new-key N\n\n"
          "Mints a connect token for a wanserver. Prints the token and its secret, a line each.\n\n"
          "FILE: a path. N: a whole number. HEX: hexadecimal digits.\n\n",
        stdout);
    tp__options_print_help(table->entries, table->count, stdout);
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
    uint64_t ttl;
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
    if (!number_read(given->ttl, TP_TOKEN_LIFE_MAX, &ttl) || ttl == 0) {
        return usage_error("--ttl: expected a number of seconds from 1 to 315360000");
    }
    if (!hex_read(given->user_data, identity.user_data)) {
        return usage_error("--user-data: expected hexadecimal digits, two for each byte");
    }
    warn_if_long(ttl);
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
    int code = key != NULL ? print_token(key, ttl, server_key, &identity)
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
    const tp__setting_table *table = token_tool_table();
    if (tp__options_read(table->entries, table->count, count - 1, words + 1, &given, report,
            sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    int code = token_tool_run(&given);
    return code == 0 ? tp__program_finish_output(name) : code;
}
