/*
 * What the process says when it cannot go on. Any thread; holds nothing, and allocates nothing but
 * what the system's write needs.
 */
#include <stdarg.h>
#include <stdio.h>

#include "os/stream.h"

#define LINE        544
#define PATIENCE_MS 1000 /* for a reader that is slow; one that stands still must not keep us */

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
