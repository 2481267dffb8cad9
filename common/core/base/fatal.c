/*
 * Ends the process after a fatal fault, on the thread that found it. Owns no state. The log's
 * memory and thread may be damaged, so the line goes directly to standard error, in one piece,
 * because other threads write there as well.
 */
#include "core/base/fatal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/stream.h"

void tp__fatal(const char *format, ...) {
    char what[500];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    tp_stream_last_words("fatal: %s", what);
    abort();
}
