/*
 * Any bytes as a configuration file, with a setting of every kind: nothing is written out of
 * bounds, accepted values are in their range, and a refusal has an error text.
 */
#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

#include "core/config/config.h"

typedef struct target {
    bool flag;
    uint64_t count;
    uint64_t bytes;
    uint64_t time;
    tp_address address;
    tp__networks networks;
    tp_processors processors;
    unsigned choice;
    char text[17];
    unsigned char behind;
} target;

static const char *const choices[] = {"auto", "epoll", "iocp", NULL};

static const tp__setting table[] = {
    {"flag", TP__SETTING_BOOL, offsetof(target, flag), 0, 0, NULL, "no", NULL, .help = ""},
    {"count", TP__SETTING_COUNT, offsetof(target, count), 1, 64, NULL, "2", NULL, .help = ""},
    {"bytes", TP__SETTING_BYTES, offsetof(target, bytes), 4096, 1u << 30, NULL, "1m", NULL,
        .help = ""},
    {"time", TP__SETTING_TIME, offsetof(target, time), 0, 86400000, NULL, "30s", NULL, .help = ""},
    {"address", TP__SETTING_ADDRESS, offsetof(target, address), 0, 0, NULL, NULL, "::1",
        .help = ""},
    {"networks", TP__SETTING_NETWORKS, offsetof(target, networks), 0, 0, NULL, "private", NULL,
        .help = ""},
    {"processors", TP__SETTING_PROCESSORS, offsetof(target, processors), 0, 0, NULL, "all", NULL,
        .help = ""},
    {"choice", TP__SETTING_CHOICE, offsetof(target, choice), 0, 0, choices, "auto", NULL,
        .help = ""},
    {"text", TP__SETTING_TEXT, offsetof(target, text), 0, 16, NULL, "bus", NULL, .help = ""},
};

static void check_accepted(const target *now) {
    REQUIRE(now->count >= 1 && now->count <= 64);
    REQUIRE(now->bytes >= 4096 && now->bytes <= 1u << 30);
    REQUIRE(now->time <= 86400000);
    REQUIRE(now->networks.count > 0 && now->networks.count <= TP_ACCESS_MAX_NETWORKS);
    REQUIRE(now->choice < 3);
    REQUIRE(memchr(now->text, '\0', sizeof now->text) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    target now;
    memset(&now, 0, sizeof now);
    now.behind = 0x5a;
    /* Buffers of all sizes, so that the sanitizer watches each end. */
    size_t capacity = 1 + size * 7 % 1500;
    char *report = malloc(capacity);
    REQUIRE(report != NULL);
    tp_err error = tp__config_parse(table, sizeof table / sizeof table[0], "fuzz",
        (const char *)data, size, &now, report, capacity);
    REQUIRE(error == TP_OK || error == TP_ERR_CONFIG);
    REQUIRE(now.behind == 0x5a);
    REQUIRE(memchr(report, '\0', capacity) != NULL);
    REQUIRE(capacity == 1 || (report[0] == '\0') == (error == TP_OK));
    if (error == TP_OK) {
        check_accepted(&now);
    }
    free(report);
    return 0;
}
