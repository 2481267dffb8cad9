/*
 * Reports: the errors of a configuration or command line as lines of text in the caller's buffer.
 * One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_CONFIG_REPORT_H
#define TWINPORT_CORE_CONFIG_CONFIG_REPORT_H

#include <stddef.h>

#include "os/compiler.h"
#include "twinport/error.h"

/* Text from outside, made fit for a message: cut, without control characters. Returns `text`. */
#define TP__QUOTED_TEXT 64
const char *tp__quoted(const char *somebodys, char *text);

/* What does not fit is cut off at the end. */
typedef struct tp__report {
    char *text;
    size_t room; /* 1 or more */
    size_t used;
    unsigned errors;
} tp__report;

#define TP__REPORT_ERRORS 8 /* that many are told; what follows is only counted */

/* Begins an empty report in `text`. */
tp__report tp__report_begin(char *text, size_t room);
/* Adds one error as one line; lines are separated by newlines. */
TP_PRINTF(2, 3) void tp__report_error(tp__report *report, const char *format, ...);
/* Says how many were only counted. TP_OK if there was no error, else TP_ERR_CONFIG. */
tp_err tp__report_end(tp__report *report);
/* The same for what is no error, and was added like one. */
void tp__report_end_warnings(tp__report *report);

#endif
