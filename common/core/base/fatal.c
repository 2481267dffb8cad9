/*
 * The end of the process. Runs on whichever thread found the fault, and on no state of its own: the
 * log's memory and thread may be what is broken, so the line goes straight to standard error, in
 * one piece, since other threads write there as well.
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
