/*
 * Reports: the errors of a configuration or command line as lines of text in the caller's buffer.
 * One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_CONFIG_REPORT_H
#define TWINPORT_CORE_CONFIG_CONFIG_REPORT_H

#include <stddef.h>

#include "os/compiler.h"
#include "twinport/error.h"

/* Copies text from outside for use in a message: cut to TP__QUOTED_TEXT - 1 bytes, control
 * characters replaced. Returns `text`. */
#define TP__QUOTED_TEXT 64
const char *tp__quoted(const char *source, char *text);

/* Text that does not fit is cut off at the end. */
typedef struct tp__report {
    char *text;
    size_t size; /* 1 or more */
    size_t used;
    unsigned errors;
} tp__report;

#define TP__REPORT_ERRORS 8 /* errors with a line of their own; further ones are only counted */

/* Begins an empty report in `text`. */
tp__report tp__report_begin(char *text, size_t size);
/* Adds one error as one line; lines are separated by newlines. */
TP_PRINTF(2, 3) void tp__report_error(tp__report *report, const char *format, ...);
/* Adds the number of errors that were only counted. TP_OK if there was no error, else
 * TP_ERR_CONFIG. */
tp_err tp__report_end(tp__report *report);
/* The same for a report of warnings, which were added like errors. */
void tp__report_end_warnings(tp__report *report);

#endif
