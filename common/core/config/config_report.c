/*
 * Reports: the errors of a configuration or command line, gathered into the caller's buffer. One
 * thread, at start.
 */
#include "core/config/config_report.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void move_on(tp__report *report, int printed) {
    size_t left = report->room - report->used - 1;
    if (printed > 0) {
        report->used += (size_t)printed < left ? (size_t)printed : left;
    }
}

tp__report tp__report_begin(char *text, size_t room) {
    text[0] = '\0';
    return (tp__report){.text = text, .room = room};
}

void tp__report_error(tp__report *report, const char *format, ...) {
    if (report->errors++ >= TP__REPORT_ERRORS) {
        return;
    }
    if (report->errors > 1) {
        move_on(report, snprintf(report->text + report->used, report->room - report->used, "\n"));
    }
    va_list arguments;
    va_start(arguments, format);
    move_on(report,
        vsnprintf(report->text + report->used, report->room - report->used, format, arguments));
    va_end(arguments);
}

static void say_how_many_more(tp__report *report, const char *of_what) {
    if (report->errors > TP__REPORT_ERRORS) {
        move_on(report, snprintf(report->text + report->used, report->room - report->used,
                            "\nand %u more %s", report->errors - TP__REPORT_ERRORS, of_what));
    }
}

void tp__report_end_warnings(tp__report *report) {
    say_how_many_more(report, "warnings");
}

tp_err tp__report_end(tp__report *report) {
    say_how_many_more(report, "errors");
    return report->errors == 0 ? TP_OK : TP_ERR_CONFIG;
}

const char *tp__quoted(const char *somebodys, char *text) {
    size_t length = strlen(somebodys);
    bool cut = length >= TP__QUOTED_TEXT;
    if (cut) {
        length = TP__QUOTED_TEXT - sizeof "...";
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)somebodys[i];
        text[i] = c < 0x20 || c == 0x7f ? '?' : somebodys[i];
    }
    memcpy(text + length, cut ? "..." : "", cut ? sizeof "..." : 1);
    return text;
}
