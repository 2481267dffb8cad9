/*
 * The life of a server program. See program_run.h. The main thread only; no state but the caller's.
 */
#include "core/config/program_run.h"

#include <stdio.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/config/program.h"
#include "os/process.h"
#include "os/thread.h"
#include "twinport/version.h"

/* ---- command line ---------------------------------------------------------------------------- */

static void program_print_help(const tp__program *program) {
    const tp__setting_table *table = program->options();
    printf("%s\n", program->usage);
    tp__options_print_help(table->entries, table->count, stdout);
}

static void program_print_config(const tp__program *program) {
    const tp__setting_table *table = program->settings();
    tp__config_print_example(table->entries, table->count, stdout);
}

int tp__program_begin(const tp__program *program, int count, char *const *words, void *options) {
    const tp__setting_table *table = program->options();
    const tp__program_options *given = options;
    char report[TP__CONFIG_REPORT];
    tp_process_guard();
    if (tp__options_read(table->entries, table->count, count - 1, words + 1, options, report,
            sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    if (given->help) {
        program_print_help(program);
    } else if (given->version) {
        printf("%s %s\n", program->name, tp_version());
    } else if (given->print_config) {
        program_print_config(program);
    } else {
        return TP__PROGRAM_CONTINUE;
    }
    return tp__program_finish_output(program->name);
}

int tp__program_check(
    const tp__program *program, const tp__server_settings *settings, const char *path, void *it) {
    const char *what = path[0] != '\0' ? path : "default configuration";
    bool can_log = tp__program_can_log(program->name, settings->log_file);
    tp_err error = program->create(it);
    program->destroy(it);
    if (error) {
        tp__program_print_error(program->name, "%s: %s", what, tp_err_text(error));
    }
    if (error || !can_log) {
        return 2;
    }
    printf("%s: %s: OK\n", program->name, what);
    return tp__program_finish_output(program->name);
}

/* ---- run ------------------------------------------------------------------------------------- */

void tp__program_print_listening(
    const char *name, const tp_address *address, const char *io, unsigned workers) {
    char text[TP_ADDRESS_TEXT];
    tp__program_print("%s: listening on %s (io %s, workers %u)\n", name,
        tp_address_format(address, text), io, workers > 0 ? workers : tp_processor_count());
}

static void program_wait_for_stop(const tp__program *program, void *it) {
    tp_process_event event;
    while ((event = tp_process_wait(program->tick_ms)) != TP_PROCESS_STOP) {
        if (event == TP_PROCESS_RELOAD) {
            tp__program_reopen_log();
            program->reload(it);
        } else {
            program->tick(it);
        }
    }
}

static int program_serve(
    const tp__program *program, const tp__server_settings *settings, void *it) {
    tp_err error = program->start(it);
    if (error) {
        char address[TP_ADDRESS_TEXT];
        char what[TP_ADDRESS_TEXT + 32];
        (void)snprintf(
            what, sizeof what, "cannot start on %s", tp_address_format(&settings->listen, address));
        return tp__program_fail(program->name, what, error);
    }
    program_wait_for_stop(program, it);
    tp__program_print_stopping(program->name);
    error = program->stop(it);
    program->print_stats(it);
    return error ? tp__program_fail(program->name, "cannot stop cleanly", error) : 0;
}

/* Before other threads start. */
static tp_err program_prepare(const tp__program *program, const tp__server_settings *settings,
    unsigned sessions, unsigned pending) {
    tp__program_set_scheduling(
        program->name, (tp_priority)settings->priority, &settings->processors);
    tp_err error = tp__program_catch_requests();
    if (!error) {
        tp__program_raise_descriptors(program->name, sessions, pending);
    }
    return error;
}

int tp__program_run(const tp__program *program, const tp__server_settings *settings,
    unsigned sessions, unsigned pending, void *it) {
    tp_log_options log = tp__server_settings_log(settings);
    tp_err error = program_prepare(program, settings, sessions, pending);
    if (error) {
        return tp__program_fail(program->name, "cannot catch stop requests", error);
    }
    error = tp_log_open(&log);
    if (error) {
        return tp__program_fail(
            program->name, settings->log_file[0] ? settings->log_file : "log", error);
    }
    error = program->create(it);
    int code = error ? tp__program_fail(program->name, "cannot create the server", error)
                     : program_serve(program, settings, it);
    program->destroy(it);
    tp_log_close();
    tp__program_print_log_losses(program->name);
    return code;
}
