/*
 * The end of the process. Runs on whichever thread found the fault, and on no state of its own: the
 * log's memory and thread may be what is broken, so the line goes straight to standard error.
 */
#include "core/fatal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void tp__fatal(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "twinport: fatal: %s\n", line);
    (void)fflush(stderr);
    abort();
}
