/*
 * Functions that the main functions of the programs share. The main thread; the only state is the
 * time that output may still wait.
 */
#include "core/config/program.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "os/clock.h"
#include "os/error.h"
#include "os/file.h"
#include "os/stream.h"
#include "twinport/log.h"
#include "twinport/server.h"

/* Descriptors in addition to those of sessions: standard streams, log, port, listener, and a
 * reserve. */
#define OWN_DESCRIPTORS 64u

/* What is left of the time for which readers of the two streams may delay the program in its whole
 * life: a stop prints many lines. */
static uint64_t patience_ms = 500;

static void write_text(tp_standard_stream which, const char *text) {
    tp_stream stream;
    tp_stream_standard(&stream, which);
    uint64_t since_ms = tp_clock_ms();
    (void)tp_stream_write(&stream, text, strlen(text), (int)patience_ms, NULL);
    uint64_t taken_ms = tp_clock_ms() - since_ms;
    patience_ms -= taken_ms < patience_ms ? taken_ms : patience_ms;
}

void tp__program_print_error(const char *program, const char *format, ...) {
    char what[TP__PROGRAM_TEXT];
    char line[sizeof what + 64]; /* the program's name is short */
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    (void)snprintf(line, sizeof line, "%s: %s\n", program, what);
    write_text(TP_STANDARD_ERROR, line);
}

void tp__program_print(const char *format, ...) {
    char text[TP__PROGRAM_TEXT];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    write_text(TP_STANDARD_OUTPUT, text);
}

void tp__program_print_stopping(const char *program) {
    tp__program_print("%s: stopping\n", program);
}

void tp__program_print_log_losses(const char *program) {
    tp_log_stats log = {.size = sizeof log};
    tp_log_get_stats(&log);
    if (log.failed + log.dropped > 0) {
        tp__program_print_error(program,
            "log: %" PRIu64 " lines not written, %" PRIu64 " lines dropped: buffer full",
            log.failed, log.dropped);
    }
}

void tp__program_reopen_log(void) {
    tp_err error = tp_log_reopen();
    if (error) {
        TP_LOG(TP_LOG_ERROR, "log file not reopened, keeping the open file: %s (system code %d)",
            tp_err_text(error), tp_os_error());
    } else {
        TP_LOG(TP_LOG_INFO, "log file reopened");
    }
}

int tp__program_fail(const char *program, const char *what, tp_err error) {
    tp__program_print_error(program, "%s: %s", what, tp_err_text(error));
    return 1;
}

int tp__program_finish_output(const char *program) {
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    return lost ? tp__program_fail(program, "standard output", tp_os_fail_last()) : 0;
}

void tp__program_print_report(const char *report) {
    size_t size = strlen(report);
    write_text(TP_STANDARD_ERROR, report);
    if (size == 0 || report[size - 1] != '\n') {
        write_text(TP_STANDARD_ERROR, "\n");
    }
}

bool tp__program_can_log(const char *program, const char *path) {
    tp_err error = path[0] != '\0' ? tp_file_try_append(path) : TP_OK;
    if (error) {
        tp__program_print_error(
            program, "log_file is %s: expected a writable file: %s", path, tp_err_text(error));
    }
    return error == TP_OK;
}

void tp__program_raise_descriptors(const char *program, unsigned sessions, unsigned pending) {
    uint64_t limit = tp_process_raise_descriptor_limit();
    uint64_t beside = (uint64_t)pending + TP_SERVER_ENDING(sessions);
    if (limit < sessions + beside + OWN_DESCRIPTORS) {
        tp__program_print_error(program,
            "warning: the system allows %" PRIu64 " open files, too few for %u sessions and "
            "%" PRIu64 " connections that are pending or being ended: further connections will "
            "wait until others are closed",
            limit, sessions, beside);
    }
}

tp_err tp__program_catch_requests(void) {
    tp_err error = tp_process_catch_stop();
    if (error) {
        return error;
    }
    error = tp_process_catch_reload();
    return error == TP_ERR_UNSUPPORTED ? TP_OK : error;
}

static bool names_any(const tp_processors *processors) {
    static const tp_processors none;
    return memcmp(processors, &none, sizeof none) != 0;
}

void tp__program_set_scheduling(
    const char *program, tp_priority priority, const tp_processors *processors) {
    tp_err error = tp_process_set_priority(priority);
    if (error) {
        tp__program_print_error(program, "warning: priority not set: %s", tp_err_text(error));
    }
    error = names_any(processors) ? tp_process_set_processors(processors) : TP_OK;
    if (error) {
        tp__program_print_error(
            program, "warning: processors not set, using all: %s", tp_err_text(error));
    }
}
