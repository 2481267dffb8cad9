/*
 * The end of the process. Runs on whichever thread found the fault, and on no state of its own: the
 * log's memory and thread may be what is broken, so the line goes straight to standard error.
 */
#include "core/fatal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The line leaves in one piece: other threads write to standard error as well. */
void tp__fatal(const char *format, ...) {
    char what[512];
    char line[sizeof what + 32];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    (void)snprintf(line, sizeof line, "twinport: fatal: %s\n", what);
    (void)fputs(line, stderr);
    (void)fflush(stderr);
    abort();
}
