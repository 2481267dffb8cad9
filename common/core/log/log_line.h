/*
 * One line of the log as text: "2026-01-31 23:59:59.123 warning  text\n".
 */
#ifndef TWINPORT_CORE_LOG_LOG_LINE_H
#define TWINPORT_CORE_LOG_LOG_LINE_H

#include <stdarg.h>
#include <stddef.h>

#include "os/compiler.h"
#include "twinport/log.h"

#define TP__LOG_LINE 1024 /* bytes of a line at most, its newline included */

typedef struct tp__log_line {
    size_t size;                  /* bytes, the newline included */
    size_t text;                  /* offset of the text, after time and level */
    char bytes[TP__LOG_LINE + 1]; /* with a final zero, which vsnprintf needs */
} tp__log_line;

/* Formats a line with the current time. A text that is too long is cut and ends in "..."; control
 * characters become '?', so that text from a remote side can neither end a line nor forge one. Any
 * thread. */
void tp__log_line_format(
    tp__log_line *line, tp_log_level level, const char *format, va_list arguments);

TP_PRINTF(3, 4)
void tp__log_line_print(tp__log_line *line, tp_log_level level, const char *format, ...);

/* Copies the line's text, without the newline, into `text` (`text_size` bytes), cut to fit. */
void tp__log_line_copy_text(const tp__log_line *line, char *text, size_t text_size);

#endif
