/*
 * Reports: the errors of a configuration or command line, collected in the caller's buffer. One
 * thread, at start.
 */
#include "core/config/config_report.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void report_advance(tp__report *report, int printed) {
    assert(report->used < report->size);
    size_t left = report->size - report->used - 1;
    if (printed > 0) {
        report->used += (size_t)printed < left ? (size_t)printed : left;
    }
}

tp__report tp__report_begin(char *text, size_t size) {
    assert(size > 0);
    text[0] = '\0';
    return (tp__report){.text = text, .size = size};
}

void tp__report_error(tp__report *report, const char *format, ...) {
    if (report->errors++ >= TP__REPORT_ERRORS) {
        return;
    }
    if (report->errors > 1) {
        report_advance(
            report, snprintf(report->text + report->used, report->size - report->used, "\n"));
    }
    va_list arguments;
    va_start(arguments, format);
    report_advance(report,
        vsnprintf(report->text + report->used, report->size - report->used, format, arguments));
    va_end(arguments);
}

static void report_print_rest(tp__report *report, const char *of_what) {
    if (report->errors > TP__REPORT_ERRORS) {
        report_advance(
            report, snprintf(report->text + report->used, report->size - report->used,
                        "\nand %u more %s", report->errors - TP__REPORT_ERRORS, of_what));
    }
}

void tp__report_end_warnings(tp__report *report) {
    report_print_rest(report, "warnings");
}

tp_err tp__report_end(tp__report *report) {
    report_print_rest(report, "errors");
    return report->errors == 0 ? TP_OK : TP_ERR_CONFIG;
}

const char *tp__quoted(const char *source, char *text) {
    size_t length = strlen(source);
    bool cut = length >= TP__QUOTED_TEXT;
    if (cut) {
        length = TP__QUOTED_TEXT - sizeof "...";
    }
    assert(length < TP__QUOTED_TEXT);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)source[i];
        text[i] = source[i];
        if (c < 0x20 || c == 0x7f) {
            text[i] = '?';
        }
    }
    memcpy(text + length, cut ? "..." : "", cut ? sizeof "..." : 1);
    return text;
}
