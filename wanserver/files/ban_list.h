/*
 * The file with the ban list: networks that may not connect, one per line, for ever or until a
 * time.
 *
 *     # network          until, seconds since 1970
 *     203.0.113.7
 *     198.51.100.0/24    1788000000
 *     2001:db8:bad::/48
 *
 * One thread at a time.
 */
#ifndef TWINPORT_WANSERVER_FILES_BAN_LIST_H
#define TWINPORT_WANSERVER_FILES_BAN_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"

#define TP__BAN_LIST_MAX      4096u
#define TP__BAN_LIST_MAX_FILE (1024u * 1024u) /* bytes */

typedef struct tp__listed_ban {
    tp_network network;
    unsigned line;  /* the first line that has it */
    uint64_t until; /* seconds since 1970, 0: for ever */
} tp__listed_ban;

/* Sorted by tp__ban_compare(); no network is in it twice. */
typedef struct tp__ban_list {
    size_t count;
    tp__listed_ban bans[TP__BAN_LIST_MAX];
} tp__ban_list;

/* Reads the text of a list, which may be empty. `name` is its name in messages. TP_ERR_CONFIG: then
 * `report` (`report_size` bytes, 1 or more) has a line for every error, up to TP__REPORT_ERRORS,
 * and the list is empty. A network that is given again is no error: the longer ban counts, and with
 * TP_OK the report has a line for each such network, or is empty. */
tp_err tp__ban_list_parse(const char *name, const char *text, size_t size, tp__ban_list *list,
    char *report, size_t report_size);

/* The same for a file. Also TP_ERR_NO_FILE, TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each with a
 * report. */
tp_err tp__ban_list_load(const char *path, tp__ban_list *list, char *report, size_t report_size);

/* The order of networks, as by strcmp(): below 0, 0 or above 0. */
int tp__ban_compare(const tp_network *a, const tp_network *b);

#endif
