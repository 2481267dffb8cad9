/*
 * Reads the lines of the ban list. One thread at a time; the list belongs to the caller.
 */
#include "wanserver/files/ban_list.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/config/config_report.h"
#include "wanserver/files/text_file.h"
#include "wanserver/files/words.h"

#define WARNINGS_SIZE 4096u

typedef struct reader {
    const char *name;
    tp__ban_list *list; /* sorted at any time */
    tp__report errors;
    tp__report warnings;
} reader;

static bool ban_read(const tp__word *words, size_t count, tp__listed_ban *ban) {
    assert(count >= 1);
    char text[TP_ADDRESS_TEXT];
    unsigned long long until = 0;
    bool right = count <= 2 && tp__word_copy(words[0], text, sizeof text) &&
                 tp_network_parse(text, &ban->network) == TP_OK &&
                 (count == 1 || tp__word_number(words[1], UINT64_MAX, &until));
    ban->until = until;
    return right;
}

int tp__ban_compare(const tp_network *a, const tp_network *b) {
    int order = memcmp(a->ip, b->ip, sizeof a->ip);
    return order != 0 ? order : (int)a->bits - (int)b->bits;
}

/* The index of the network in the list, or the index at which it would be inserted. */
static size_t ban_list_find(const tp__ban_list *list, const tp_network *network) {
    assert(list->count <= TP__BAN_LIST_MAX);
    size_t from = 0;
    size_t to = list->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (tp__ban_compare(&list->bans[middle].network, network) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

/* Merges a ban of a network that has one. The longer ban counts, so no ban ends earlier because a
 * line was added. */
static void ban_list_merge(reader *in, tp__listed_ban *had, const tp__listed_ban *ban) {
    assert(tp__ban_compare(&had->network, &ban->network) == 0);
    tp__report_error(&in->warnings,
        "%s:%u: network given again: line %u has it; the longer ban counts", in->name, ban->line,
        had->line);
    if (had->until != 0 && (ban->until == 0 || ban->until > had->until)) {
        had->until = ban->until;
    }
}

/* Adds a ban to the list. False: the list is full, and the remaining lines are not read. */
static bool ban_list_add(reader *in, const tp__listed_ban *ban) {
    tp__ban_list *list = in->list;
    size_t at = ban_list_find(list, &ban->network);
    tp__listed_ban *place = &list->bans[at];
    if (at < list->count && tp__ban_compare(&place->network, &ban->network) == 0) {
        ban_list_merge(in, place, ban);
        return true;
    }
    if (list->count == TP__BAN_LIST_MAX) {
        tp__report_error(&in->errors, "%s:%u: too many networks: expected at most %u", in->name,
            ban->line, TP__BAN_LIST_MAX);
        return false;
    }
    memmove(place + 1, place, (list->count - at) * sizeof *place);
    *place = *ban;
    list->count++;
    assert(at == 0 || tp__ban_compare(&place[-1].network, &place->network) < 0);
    assert(at + 1 == list->count || tp__ban_compare(&place->network, &place[1].network) < 0);
    return true;
}

static void ban_list_read(reader *in, const char *text, size_t size) {
    tp__lines lines = tp__lines_of(text, size);
    tp__word words[2];
    size_t count;
    bool more = true;
    while (more && (count = tp__lines_next(&lines, words, 2)) > 0) {
        tp__listed_ban ban = {.line = lines.number};
        char quoted[TP__QUOTED_TEXT];
        if (ban_read(words, count, &ban)) {
            more = ban_list_add(in, &ban);
        } else {
            tp__report_error(&in->errors,
                "%s:%u: '%s': expected a network such as 203.0.113.7 or 2001:db8::/32, and "
                "optionally the end of its ban in seconds since 1970",
                in->name, lines.number, tp__word_quoted(lines.line, quoted));
        }
    }
}

/* The report contains the errors or, if there are none, the warnings. */
tp_err tp__ban_list_parse(const char *name, const char *text, size_t size, tp__ban_list *list,
    char *report, size_t report_size) {
    char warnings[WARNINGS_SIZE];
    reader in = {.name = name,
        .list = list,
        .errors = tp__report_begin(report, report_size),
        .warnings = tp__report_begin(warnings, sizeof warnings)};
    list->count = 0;
    ban_list_read(&in, text, size);
    if (in.errors.errors > 0) {
        list->count = 0;
        return tp__report_end(&in.errors);
    }
    tp__report_end_warnings(&in.warnings);
    (void)snprintf(report, report_size, "%s", warnings);
    return TP_OK;
}

tp_err tp__ban_list_load(const char *path, tp__ban_list *list, char *report, size_t report_size) {
    tp__report wrong = tp__report_begin(report, report_size);
    tp__text_file file;
    list->count = 0;
    tp_err error = tp__text_file_load(path, TP__BAN_LIST_MAX_FILE, &file, &wrong);
    if (error) {
        return error;
    }
    error = tp__ban_list_parse(path, file.text, file.size, list, report, report_size);
    tp__text_file_free(&file);
    return error;
}
