/*
 * The ban list's lines. One thread at a time; the list is the caller's.
 */
#include "wanserver/ban_list.h"

#include <stdlib.h>
#include <string.h>

#include "core/report.h"
#include "wanserver/lines.h"
#include "wanserver/text_file.h"

static bool read_ban(const tp__word *words, size_t count, tp__listed_ban *ban) {
    char text[TP_ADDRESS_TEXT];
    unsigned long long until = 0;
    bool right = count <= 2 && tp__word_copy(words[0], text, sizeof text) &&
                 tp_network_parse(text, &ban->network) == TP_OK &&
                 (count == 1 || tp__word_number(words[1], UINT64_MAX, &until));
    ban->until = until;
    return right;
}

static void take_lines(
    const char *name, const char *text, size_t size, tp__ban_list *list, tp__report *report) {
    tp__lines lines = tp__lines_of(text, size);
    tp__word words[2];
    size_t count;
    while ((count = tp__lines_next(&lines, words, 2)) > 0) {
        tp__listed_ban ban = {.line = lines.number};
        if (!read_ban(words, count, &ban)) {
            tp__report_error(report,
                "%s:%u: expected a network such as 203.0.113.7 or 2001:db8::/32, and perhaps the "
                "seconds since 1970 until when it is banned",
                name, lines.number);
        } else if (list->count == TP__BAN_LIST_MAX) {
            tp__report_error(report, "%s:%u: is one too many: expected at most %u networks", name,
                lines.number, TP__BAN_LIST_MAX);
            return;
        } else {
            list->bans[list->count++] = ban;
        }
    }
}

int tp__ban_compare(const tp_network *a, const tp_network *b) {
    int order = memcmp(a->ip, b->ip, sizeof a->ip);
    return order != 0 ? order : (int)a->bits - (int)b->bits;
}

static int compare(const void *a, const void *b) {
    const tp__listed_ban *one = a;
    const tp__listed_ban *other = b;
    int order = tp__ban_compare(&one->network, &other->network);
    return order != 0 ? order : (one->line > other->line) - (one->line < other->line);
}

static void report_doubles(const char *name, const tp__ban_list *list, tp__report *report) {
    for (size_t i = 1; i < list->count; i++) {
        const tp__listed_ban *one = &list->bans[i];
        if (tp__ban_compare(&one[-1].network, &one->network) == 0) {
            tp__report_error(report, "%s:%u: is given again: expected once, and line %u has it",
                name, one->line, one[-1].line);
        }
    }
}

static tp_err parse(
    const char *name, const char *text, size_t size, tp__ban_list *list, tp__report *report) {
    take_lines(name, text, size, list, report);
    qsort(list->bans, list->count, sizeof list->bans[0], compare);
    report_doubles(name, list, report);
    if (report->errors > 0) {
        list->count = 0;
    }
    return tp__report_end(report);
}

tp_err tp__ban_list_parse(const char *name, const char *text, size_t size, tp__ban_list *list,
    char *report, size_t room) {
    tp__report wrong = tp__report_begin(report, room);
    list->count = 0;
    return parse(name, text, size, list, &wrong);
}

tp_err tp__ban_list_load(const char *path, tp__ban_list *list, char *report, size_t room) {
    tp__report wrong = tp__report_begin(report, room);
    tp__text_file file;
    list->count = 0;
    tp_err error = tp__text_file_load(path, TP__BAN_LIST_MAX_FILE, &file, &wrong);
    if (error) {
        return error;
    }
    error = parse(path, file.text, file.size, list, &wrong);
    tp__text_file_free(&file);
    return error;
}
