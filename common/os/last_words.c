/*
 * The process's last message, before it ends. Any thread; owns nothing. It allocates nothing
 * except what the system's write needs.
 */
#include <stdarg.h>
#include <stdio.h>

#include "os/stream.h"

#define LINE        544
#define PATIENCE_MS 1000 /* for a slow reader; one that does not read must not block the end */

void tp_stream_last_words(const char *format, ...) {
    char what[LINE - 32];
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    int size = snprintf(line, sizeof line, "twinport: %s\n", what);
    tp_stream error;
    tp_stream_standard(&error, TP_STANDARD_ERROR);
    if (size > 0) {
        (void)tp_stream_write(&error, line, (size_t)size, PATIENCE_MS, NULL);
    }
}
