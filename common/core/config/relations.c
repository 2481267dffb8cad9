/*
 * Conditions between settings. See relations.h. One thread, at start; no state.
 */
#include "core/config/relations.h"

#include <stdarg.h>
#include <stdio.h>

#include "twinport/log.h"

#define NAMED_TEXT    (TP__SETTING_VALUE_TEXT + 64)
#define RELATION_TEXT 512

/* "max_frame is 2m" */
static const char *relation_print_value(const tp__relations *all, const char *name, char *text) {
    const tp__setting *setting = tp__setting_find(all->table, all->count, name);
    char value[TP__SETTING_VALUE_TEXT];
    (void)snprintf(text, NAMED_TEXT, "%s is %s", name,
        setting != NULL ? tp__setting_print(setting, all->target, value) : "?");
    return text;
}

static void relation_report(const tp__relations *all, bool must, const char *one, const char *other,
    const char *format, va_list arguments) {
    char first[NAMED_TEXT];
    char second[NAMED_TEXT] = "";
    char expected[RELATION_TEXT];
    char text[NAMED_TEXT * 2 + RELATION_TEXT + sizeof " and : expected "];
    (void)relation_print_value(all, one, first);
    if (other != NULL) {
        (void)relation_print_value(all, other, second);
    }
    (void)vsnprintf(expected, sizeof expected, format, arguments);
    (void)snprintf(text, sizeof text, "%s%s%s: expected %s", first, other != NULL ? " and " : "",
        second, expected);
    if (must) {
        tp__report_error(all->wrong, "%s: %s", all->path, text);
    } else {
        TP_LOG(TP_LOG_WARNING, "%s: %s", all->path, text);
    }
}

void tp__relation_must(const tp__relations *all, bool holds, const char *one, const char *other,
    const char *format, ...) {
    if (!holds) {
        va_list arguments;
        va_start(arguments, format);
        relation_report(all, true, one, other, format, arguments);
        va_end(arguments);
    }
}

void tp__relation_should(const tp__relations *all, bool holds, const char *one, const char *other,
    const char *format, ...) {
    if (!holds) {
        va_list arguments;
        va_start(arguments, format);
        relation_report(all, false, one, other, format, arguments);
        va_end(arguments);
    }
}
