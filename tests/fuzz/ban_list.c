/*
 * The ban list's parser: for any text the result is an ordered list without duplicates, or an error
 * and no list.
 */
#include "fuzz.h"

#include <string.h>

#include "wanserver/files/ban_list.h"

static tp__ban_list list;

static void check_accepted(void) {
    REQUIRE(list.count <= TP__BAN_LIST_MAX);
    for (size_t i = 0; i < list.count; i++) {
        const tp__listed_ban *one = &list.bans[i];
        tp_address first = {.ip = {0}};
        memcpy(first.ip, one->network.ip, sizeof first.ip);
        REQUIRE(one->network.bits <= 128 && one->line >= 1);
        REQUIRE(tp_network_contains(&one->network, &first));
        REQUIRE(i == 0 || tp__ban_compare(&one[-1].network, &one->network) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Buffers of all sizes, so that the sanitizer watches each end. */
    size_t capacity = 1 + size * 7 % 1500;
    char *report = malloc(capacity);
    char *text = malloc(size + 1);
    REQUIRE(report != NULL && text != NULL);
    memcpy(text, data, size);
    tp_err error = tp__ban_list_parse("fuzz", text, size, &list, report, capacity);
    REQUIRE(error == TP_OK || error == TP_ERR_CONFIG);
    REQUIRE(memchr(report, '\0', capacity) != NULL);
    REQUIRE(capacity == 1 || error == TP_OK || report[0] != '\0');
    if (error == TP_OK) {
        check_accepted();
    } else {
        REQUIRE(list.count == 0);
    }
    free(text);
    free(report);
    return 0;
}
