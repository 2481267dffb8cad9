/*
 * Values of settings: reading them, and describing what is expected. One thread, at start. All
 * memory is the caller's.
 */
#include "core/config/setting.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/config/config_report.h"
#include "os/compiler.h"

/* ---- amounts: numbers with units ------------------------------------------------------------- */

typedef struct unit {
    const char *name;
    uint64_t worth;
} unit;

/* In ascending order, so that print_amount() finds the largest unit that divides the amount. */
static const unit plain_units[] = {{"", 1}, {NULL, 0}};
static const unit byte_units[] = {
    {"", 1}, {"k", 1u << 10}, {"m", 1u << 20}, {"g", 1u << 30}, {NULL, 0}};
static const unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {NULL, 0}};

static const unit *units_of(const tp__setting *setting) {
    switch (setting->kind) {
    case TP__SETTING_BYTES:
        return byte_units;
    case TP__SETTING_TIME:
        return time_units;
    default:
        return plain_units;
    }
}

/* Reads digits without a sign or leading zeros and moves *at past them. */
static bool read_digits(const char **at, uint64_t *value) {
    const char *first = *at;
    uint64_t sum = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (sum > (UINT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = sum;
    return *at - first == 1 || (*at > first && *first != '0');
}

static bool read_amount(const tp__setting *setting, const char *text, uint64_t *amount) {
    uint64_t number;
    if (!read_digits(&text, &number)) {
        return false;
    }
    const unit *found = units_of(setting);
    while (found->name != NULL && strcmp(found->name, text) != 0) {
        found++;
    }
    uint64_t worth = found->worth;
    if (found->name == NULL) {
        if (number != 0 || *text != '\0') {
            return false;
        }
        worth = 1; /* 0 needs no unit */
    }
    if (number > UINT64_MAX / worth) {
        return false;
    }
    *amount = number * worth;
    return *amount >= setting->min && *amount <= setting->max;
}

static const char *print_amount(const tp__setting *setting, uint64_t amount, char *text) {
    const unit *best = units_of(setting);
    assert(best->worth == 1); /* it divides every amount */
    for (const unit *one = best; one->name != NULL; one++) {
        if (amount % one->worth == 0) {
            best = one;
        }
    }
    (void)snprintf(text, 32, "%" PRIu64 "%s", amount / best->worth, amount == 0 ? "" : best->name);
    return text;
}

/* ---- other kinds ----------------------------------------------------------------------------- */

static bool read_bool(const char *text, bool *value) {
    *value = strcmp(text, "yes") == 0;
    return *value || strcmp(text, "no") == 0;
}

static bool read_choice(const tp__setting *setting, const char *text, unsigned *value) {
    assert(setting->choices != NULL);
    for (unsigned i = 0; setting->choices[i] != NULL; i++) {
        if (strcmp(setting->choices[i], text) == 0) {
            *value = i;
            return true;
        }
    }
    return false;
}

static bool read_text(const tp__setting *setting, const char *text, char *value) {
    assert(setting->min <= setting->max);
    size_t length = strlen(text);
    if (length < setting->min || length > setting->max) {
        return false;
    }
    memcpy(value, text, length + 1);
    return true;
}

/* Copies the next word (words are separated by blanks or commas) and moves *at past it. False:
 * there is none, and *at is at the end; or it is too long to be valid, and *at is at its start. */
#define WORD_SIZE TP_ADDRESS_TEXT
static bool next_word(const char **at, char word[WORD_SIZE]) {
    static const char separators[] = " \t,";
    *at += strspn(*at, separators);
    size_t length = strcspn(*at, separators);
    if (length == 0 || length >= WORD_SIZE) {
        return false;
    }
    memcpy(word, *at, length);
    word[length] = '\0';
    *at += length;
    return true;
}

static bool add_network(tp__networks *list, const tp_network *network) {
    assert(list->count <= TP_COUNT_OF(list->networks));
    if (list->count == TP_COUNT_OF(list->networks)) {
        return false;
    }
    list->networks[list->count++] = *network;
    return true;
}

static bool add_word(tp__networks *list, const char *word) {
    if (strcmp(word, "private") == 0) {
        size_t count;
        const tp_network *networks = tp_private_networks(&count);
        bool added = true;
        for (size_t i = 0; added && i < count; i++) {
            added = add_network(list, &networks[i]);
        }
        return added;
    }
    tp_network network;
    return tp_network_parse(strcmp(word, "any") == 0 ? "::/0" : word, &network) == TP_OK &&
           add_network(list, &network);
}

/* A list that is empty by default may also be set to empty. Other lists may not: an empty list
 * means the opposite of what one would expect (an empty `allow` would admit every address). */
static bool networks_may_be_empty(const tp__setting *setting) {
    return setting->default_value != NULL && setting->default_value[0] == '\0';
}

static bool read_networks(const tp__setting *setting, const char *text, tp__networks *list) {
    bool any = *text == '\0' && networks_may_be_empty(setting);
    char word[WORD_SIZE];
    while (next_word(&text, word)) {
        if (!add_word(list, word)) {
            return false;
        }
        any = true;
    }
    return any && *text == '\0';
}

/* True if the text has a port: after its only ':', or after "]:". */
static bool names_port(const char *text) {
    const char *colon = strrchr(text, ':');
    return colon != NULL && (strchr(text, ':') == colon || colon[-1] == ']');
}

/* An address without a port is an error here; it does not mean port 0, which asks the system for a
 * free one. */
static bool setting_read_address(const char *text, tp_address *address) {
    return names_port(text) && tp_address_parse(text, address) == TP_OK;
}

/* "3" or "0-3". */
static bool add_processors(const char *word, tp_processors *processors) {
    uint64_t first;
    uint64_t last;
    if (!read_digits(&word, &first)) {
        return false;
    }
    last = first;
    if (*word == '-') {
        word++;
        if (!read_digits(&word, &last)) {
            return false;
        }
    }
    if (*word != '\0' || last < first || last >= TP_PROCESSORS_MAX) {
        return false;
    }
    for (uint64_t i = first; i <= last; i++) {
        processors->bits[i / 64] |= (uint64_t)1 << i % 64;
    }
    return true;
}

static bool read_processors(const char *text, tp_processors *processors) {
    memset(processors, 0, sizeof *processors);
    if (strcmp(text, "all") == 0) {
        return true;
    }
    bool any = false;
    char word[WORD_SIZE];
    while (next_word(&text, word)) {
        if (!add_processors(word, processors)) {
            return false;
        }
        any = true;
    }
    return any && *text == '\0';
}

/* ---- settings -------------------------------------------------------------------------------- */

static void *field_of(const tp__setting *setting, void *target) {
    assert(setting != NULL && target != NULL);
    return (char *)target + setting->offset;
}

static bool setting_read_value(const tp__setting *setting, const char *value, void *field) {
    switch (setting->kind) {
    case TP__SETTING_BOOL:
        return read_bool(value, field);
    case TP__SETTING_COUNT:
    case TP__SETTING_BYTES:
    case TP__SETTING_TIME:
        return read_amount(setting, value, field);
    case TP__SETTING_ADDRESS:
        return setting_read_address(value, field);
    case TP__SETTING_NETWORKS:
        return read_networks(setting, value, field);
    case TP__SETTING_PROCESSORS:
        return read_processors(value, field);
    case TP__SETTING_CHOICE:
        return read_choice(setting, value, field);
    case TP__SETTING_TEXT:
        return read_text(setting, value, field);
    }
    return false;
}

tp_err tp__setting_read(const tp__setting *setting, const char *value, void *target) {
    assert(value != NULL);
    return setting_read_value(setting, value, field_of(setting, target)) ? TP_OK : TP_ERR_CONFIG;
}

void tp__setting_clear(const tp__setting *setting, void *target) {
    if (setting->kind == TP__SETTING_NETWORKS) {
        ((tp__networks *)field_of(setting, target))->count = 0;
    }
}

tp_err tp__settings_reset(const tp__setting *table, size_t count, void *target) {
    if (count > TP__SETTINGS_MAX) {
        return TP_ERR_INVALID;
    }
    for (size_t i = 0; i < count; i++) {
        tp__setting_clear(&table[i], target);
        if (table[i].default_value != NULL &&
            tp__setting_read(&table[i], table[i].default_value, target) != TP_OK) {
            return TP_ERR_INVALID;
        }
    }
    return TP_OK;
}

/* ---- messages -------------------------------------------------------------------------------- */

const char *tp__setting_print(const tp__setting *setting, const void *target, char *text) {
    const void *field = (const char *)target + setting->offset;
    switch (setting->kind) {
    case TP__SETTING_BOOL:
        return strcpy(text, *(const bool *)field ? "yes" : "no");
    case TP__SETTING_COUNT:
    case TP__SETTING_BYTES:
    case TP__SETTING_TIME:
        return print_amount(setting, *(const uint64_t *)field, text);
    case TP__SETTING_ADDRESS:
        return tp_address_format(field, text);
    case TP__SETTING_CHOICE:
        return tp__quoted(setting->choices[*(const unsigned *)field], text);
    case TP__SETTING_TEXT:
        return tp__quoted(field, text);
    case TP__SETTING_NETWORKS:
        (void)snprintf(text, TP__SETTING_VALUE_TEXT, "a list of %zu networks",
            ((const tp__networks *)field)->count);
        return text;
    case TP__SETTING_PROCESSORS:
        return strcpy(text, "a list of processors");
    }
    return strcpy(text, "?");
}

static void expect_choice(const tp__setting *setting, char *text) {
    size_t used = (size_t)snprintf(text, TP__EXPECTATION_TEXT, "one of");
    for (unsigned i = 0; setting->choices[i] != NULL && used < TP__EXPECTATION_TEXT; i++) {
        used += (size_t)snprintf(text + used, TP__EXPECTATION_TEXT - used, "%s%s",
            i == 0 ? " " : ", ", setting->choices[i]);
    }
}

static bool is_path(const tp__setting *setting) {
    return setting->metavariable != NULL && strcmp(setting->metavariable, "FILE") == 0;
}

const char *tp__setting_expectation(const tp__setting *setting, char *text) {
    char min[32];
    char max[32];
    (void)print_amount(setting, setting->min, min);
    (void)print_amount(setting, setting->max, max);
    switch (setting->kind) {
    case TP__SETTING_BOOL:
        (void)snprintf(text, TP__EXPECTATION_TEXT, "yes or no");
        break;
    case TP__SETTING_COUNT:
        (void)snprintf(text, TP__EXPECTATION_TEXT, "a whole number from %s to %s", min, max);
        break;
    case TP__SETTING_BYTES:
        (void)snprintf(text, TP__EXPECTATION_TEXT,
            "a number of bytes such as 512, 64k or 2m, from %s to %s", min, max);
        break;
    case TP__SETTING_TIME:
        (void)snprintf(text, TP__EXPECTATION_TEXT,
            "a time with its unit such as 500ms, 30s or 5min, from %s to %s", min, max);
        break;
    case TP__SETTING_ADDRESS:
        (void)snprintf(text, TP__EXPECTATION_TEXT,
            "an IP address and port such as 127.0.0.1:4000 or [::1]:4000");
        break;
    case TP__SETTING_NETWORKS:
        (void)snprintf(text, TP__EXPECTATION_TEXT,
            "networks such as 10.0.0.0/8 or fd00::/8 (no host bits), private or any; at most %d",
            TP_ACCESS_MAX_NETWORKS);
        break;
    case TP__SETTING_PROCESSORS:
        (void)snprintf(text, TP__EXPECTATION_TEXT,
            "processor numbers such as 2 or 0-3,8, from 0 to %d, or all", TP_PROCESSORS_MAX - 1);
        break;
    case TP__SETTING_CHOICE:
        expect_choice(setting, text);
        break;
    case TP__SETTING_TEXT:
        (void)snprintf(text, TP__EXPECTATION_TEXT,
            is_path(setting) ? "a path of %s to %s bytes" : "%s to %s bytes of text", min, max);
        break;
    }
    return text;
}
