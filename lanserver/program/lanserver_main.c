/*
 * The program lanserver: reads its configuration, runs the hub until it is asked to stop, and
 * prints the hub's statistics.
 *
 * Exit codes:
 *
 *     0  stopped as requested
 *     1  cannot run
 *     2  invalid arguments or configuration
 *     3  a second request to stop
 */
#include <inttypes.h>
#include <stdio.h>

#include "core/config/config.h"
#include "core/config/program.h"
#include "lanserver/program/lan_settings.h"
#include "os/process.h"
#include "os/thread.h"
#include "twinport/version.h"

static const char name[] = "lanserver";

static int lanserver_fail(const char *what, tp_err error) {
    return tp__program_fail(name, what, error);
}

static void lanserver_print_listening(tp__hub *hub, unsigned workers) {
    tp_server *server = tp__hub_server(hub);
    tp_address address = tp_server_address(server);
    char text[TP_ADDRESS_TEXT];
    tp__program_print("lanserver: listening on %s (io %s, workers %u)\n",
        tp_address_format(&address, text), tp_server_io(server),
        workers ? workers : tp_processor_count());
}

static void lanserver_print_stats(tp__hub *hub) {
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    tp__program_print("lanserver: stopped: accepted %" PRIu64 " = delivered %" PRIu64
                      " + returned %" PRIu64 " + outstanding %" PRIu64 "\n",
        stats.accepted, stats.delivered, stats.returned, stats.outstanding);
    tp_server_stats server = {.size = sizeof server};
    tp_server_get_stats(tp__hub_server(hub), &server);
    tp__program_print("lanserver: memory held %" PRIu64 ", sessions ended for it %" PRIu64 "\n",
        server.memory_held, server.memory_ended);
}

static void lanserver_wait_for_stop(void) {
    while (tp_process_wait(-1) != TP_PROCESS_STOP) {
        tp__program_reopen_log();
    }
}

/* Runs the hub until the process is asked to stop; returns the exit code. */
static int lanserver_serve(tp__hub *hub, const tp__hub_options *options) {
    tp_err error = tp__hub_start(hub);
    if (error) {
        char text[TP_ADDRESS_TEXT + 32];
        char address[TP_ADDRESS_TEXT];
        snprintf(text, sizeof text, "cannot start on %s",
            tp_address_format(&options->server.address, address));
        return lanserver_fail(text, error);
    }
    lanserver_print_listening(hub, options->server.workers);
    lanserver_wait_for_stop();
    tp__program_print_stopping(name);
    tp__hub_stop(hub);
    error = tp__hub_wait(hub, -1);
    lanserver_print_stats(hub);
    return error ? lanserver_fail("cannot stop cleanly", error) : 0;
}

static int lanserver_run(const tp__settings *settings, const tp__hub_options *options) {
    const tp__server_settings *server = &settings->server;
    tp_log_options log = tp__server_settings_log(server);
    tp__program_set_scheduling(name, (tp_priority)server->priority, &server->processors);
    tp_err error = tp__program_catch_requests();
    if (error) {
        return lanserver_fail("cannot catch stop requests", error);
    }
    tp__program_raise_descriptors(name, options->server.max_sessions, 0);
    error = tp_log_open(&log);
    if (error) {
        return lanserver_fail(server->log_file[0] ? server->log_file : "log", error);
    }
    tp__hub *hub = NULL;
    error = tp__hub_create(options, &hub);
    int code =
        error ? lanserver_fail("cannot create the server", error) : lanserver_serve(hub, options);
    tp__hub_destroy(hub);
    tp_log_close();
    tp__program_print_log_losses(name);
    return code;
}

/* Checks a configuration; returns the exit code. Relations between settings were checked when they
 * were read; the rest is checked by creating the hub and opening the log. */
static int lanserver_check(
    const char *path, const tp__settings *settings, const tp__hub_options *options) {
    bool can_log = tp__program_can_log(name, settings->server.log_file);
    tp__hub *hub = NULL;
    tp_err error = tp__hub_create(options, &hub);
    tp__hub_destroy(hub);
    if (error) {
        tp__program_print_error(name, "%s: %s", path, tp_err_text(error));
    }
    if (error || !can_log) {
        return 2;
    }
    printf("lanserver: %s: OK\n", path[0] ? path : "default configuration");
    return tp__program_finish_output(name);
}

int main(int count, char **words) {
    static tp__arguments arguments;
    static tp__settings settings;
    char report[TP__CONFIG_REPORT];
    tp_process_guard();
    if (tp__arguments_read(count - 1, words + 1, &arguments, report, sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    if (arguments.help) {
        tp__arguments_print_help(stdout);
        return tp__program_finish_output(name);
    }
    if (arguments.version) {
        printf("lanserver %s\n", tp_version());
        return tp__program_finish_output(name);
    }
    if (arguments.print_config) {
        tp__settings_print_example(stdout);
        return tp__program_finish_output(name);
    }
    if (tp__settings_load(arguments.config, &settings, report, sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    tp__hub_options options;
    tp__settings_apply(&settings, &options);
    return arguments.check_config ? lanserver_check(arguments.config, &settings, &options)
                                  : lanserver_run(&settings, &options);
}
