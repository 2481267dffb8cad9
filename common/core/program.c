/*
 * What the mains of the programs have in common. One thread, at start; nothing is kept.
 */
#include "core/program.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/error.h"

/* Descriptors beside those of the sessions: standard streams, log, port, listener, and some to
 * spare. */
#define OWN_DESCRIPTORS 64u

void tp__program_say(const char *program, const char *format, ...) {
    char what[TP__PROGRAM_TEXT];
    char line[sizeof what + 64]; /* the program's name is short */
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    (void)snprintf(line, sizeof line, "%s: %s\n", program, what);
    (void)fputs(line, stderr);
}

int tp__program_fail(const char *program, const char *what, tp_err error) {
    tp__program_say(program, "%s: %s", what, tp_err_text(error));
    return 1;
}

int tp__program_finish_output(const char *program) {
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    return lost ? tp__program_fail(program, "standard output", tp_os_fail_last()) : 0;
}

void tp__program_say_report(const char *report) {
    size_t size = strlen(report);
    fprintf(stderr, "%s%s", report, size > 0 && report[size - 1] == '\n' ? "" : "\n");
}

void tp__program_raise_descriptors(const char *program, unsigned sessions) {
    uint64_t limit = tp_process_raise_descriptor_limit();
    if (limit < (uint64_t)sessions + OWN_DESCRIPTORS) {
        tp__program_say(program,
            "warning: the system allows %" PRIu64
            " open files, too few for %u sessions: connections will be refused beyond",
            limit, sessions);
    }
}

static bool names_any(const tp_processors *processors) {
    static const tp_processors none;
    return memcmp(processors, &none, sizeof none) != 0;
}

void tp__program_take_share(
    const char *program, tp_priority priority, const tp_processors *processors) {
    tp_err error = tp_process_set_priority(priority);
    if (error) {
        tp__program_say(program, "warning: priority stays as it was: %s", tp_err_text(error));
    }
    error = names_any(processors) ? tp_process_set_processors(processors) : TP_OK;
    if (error) {
        tp__program_say(program, "warning: all processors are used: %s", tp_err_text(error));
    }
}
