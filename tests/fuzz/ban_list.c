/* The ban list's parser: whatever the text, a list in order without doubles, or none at all. */
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
    size_t room = 1 + size * 7 % 1500; /* of all sizes, each where its end is watched */
    char *report = malloc(room);
    char *text = malloc(size + 1);
    REQUIRE(report != NULL && text != NULL);
    memcpy(text, data, size);
    tp_err error = tp__ban_list_parse("fuzz", text, size, &list, report, room);
    REQUIRE(error == TP_OK || error == TP_ERR_CONFIG);
    REQUIRE(memchr(report, '\0', room) != NULL);
    REQUIRE(room == 1 || error == TP_OK || report[0] != '\0');
    if (error == TP_OK) {
        check_accepted();
    } else {
        REQUIRE(list.count == 0);
    }
    free(text);
    free(report);
    return 0;
}
