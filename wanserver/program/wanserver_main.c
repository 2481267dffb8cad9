/*
 * The program wanserver: reads its configuration, runs the gate on a WAN server until it is asked
 * to stop, and prints the statistics of both.
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
#include <string.h>

#include "core/config/config.h"
#include "core/config/program.h"
#include "os/process.h"
#include "os/thread.h"
#include "proto/keys.h"
#include "twinport/version.h"
#include "wanserver/files/key_file.h"
#include "wanserver/program/program_files.h"
#include "wanserver/program/wan_settings.h"

static const char name[] = "wanserver";

/* The program's state. */
typedef struct program {
    tp__settings settings;
    tp__files files;
    tp_wanserver_options options;
    tp__gate_options gate_options;
    tp__gate *gate;
    tp_server *server;
} program;

static int wanserver_fail(const char *what, tp_err error) {
    return tp__program_fail(name, what, error);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void print_key(const uint8_t public_key[TP_KEY_SIZE]) {
    char text[TP_KEY_TEXT];
    printf("%s\n", tp_key_format(public_key, text));
}

static int make_key(const char *path) {
    uint8_t public_key[TP_KEY_SIZE];
    tp_err error = tp__key_file_create(path, public_key);
    if (error == TP_ERR_STATE) {
        tp__program_print_error(name, "%s: file exists and is not overwritten", path);
        return 1;
    }
    if (error) {
        return wanserver_fail(path, error);
    }
    print_key(public_key);
    return tp__program_finish_output(name);
}

static int show_key(const char *path) {
    char report[TP__CONFIG_REPORT];
    tp_key_pair pair;
    tp_err error = tp__key_file_load(path, pair.private_key, report, sizeof report);
    if (error) {
        tp__program_print_report(report);
        return 2;
    }
    error = tp_key_pair_from_private(pair.private_key, &pair);
    if (!error) {
        print_key(pair.public_key);
    }
    tp_secure_wipe(&pair, sizeof pair);
    return error ? wanserver_fail(path, error) : tp__program_finish_output(name);
}

/* ---- output ---------------------------------------------------------------------------------- */

static void print_listening(const program *it) {
    tp_address address = tp_server_address(it->server);
    unsigned workers = it->options.server.workers;
    char text[TP_ADDRESS_TEXT];
    tp__program_print("%s: listening on %s (io %s, workers %u)\n", name,
        tp_address_format(&address, text), tp_server_io(it->server),
        workers ? workers : tp_processor_count());
}

static void warn_if_open(const tp__settings *settings) {
    if (settings->auth == TP_AUTH_OPEN) {
        TP_LOG(TP_LOG_WARNING, "auth = open: ANYONE WHO REACHES THIS ADDRESS CAN PLAY. No tokens "
                               "are required, services "
                               "do not know accounts, and only addresses can be banned. For tests, "
                               "not for the public.");
    }
}

/* Prints lines of name=value, each with the program's name and the part's name in front. */
static void print_lines(const char *part, const char *lines) {
    while (*lines != '\0') {
        size_t length = strcspn(lines, "\n");
        tp__program_print("%s: %s %.*s\n", name, part, (int)length, lines);
        lines += length + (lines[length] == '\n');
    }
}

static void print_wan_stats(const tp_server *server) {
    tp_wanserver_stats now = {.size = sizeof now};
    tp_wanserver_get_stats(server, &now);
    tp_server_stats core = {.size = sizeof core};
    tp_server_get_stats(server, &core);
    tp__program_print("%s: wan denied=%" PRIu64 "\n", name, core.denied);
    tp__program_print("%s: wan full=%" PRIu64 "\n", name, core.full);
    tp__program_print("%s: wan cut_short=%" PRIu64 "\n", name, core.cut_short);
    tp__program_print("%s: wan memory_ended=%" PRIu64 "\n", name, core.memory_ended);
    tp__program_print("%s: wan memory_held=%" PRIu64 "\n", name, core.memory_held);
#define PRINT(member) tp__program_print("%s: wan " #member "=%" PRIu64 "\n", name, now.member);
    PRINT(established)
    PRINT(banned)
    PRINT(limited)
    PRINT(evicted)
    PRINT(crowded)
    PRINT(late)
    PRINT(gone)
    PRINT(foreign)
    PRINT(other_version)
    PRINT(expired)
    PRINT(long_lived)
    PRINT(unknown_key)
    PRINT(forged)
    PRINT(replayed)
    PRINT(replay_full)
    PRINT(busy)
    PRINT(not_authentic)
    PRINT(diffie_hellman)
    PRINT(overdue)
    PRINT(not_ready)
    PRINT(tampered)
    PRINT(rate_limited)
    PRINT(key_limit)
    PRINT(records_sealed)
    PRINT(records_opened)
#undef PRINT
}

static void print_stats(const program *it) {
    char report[TP__GATE_STATS_TEXT_SIZE];
    tp__program_print("%s: stopped\n", name);
    print_wan_stats(it->server);
    (void)tp__gate_stats_text(it->gate, report, sizeof report);
    print_lines("gate", report);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Creates both: the gate is the server's context, and starting the gate starts the server. */
static tp_err wanserver_create(program *it) {
    tp_handlers handlers;
    tp__settings_apply(&it->settings, &it->options, &it->gate_options);
    tp__files_apply(&it->files, &it->options);
    tp_err error = tp__gate_create(&it->gate_options, &it->gate);
    if (!error) {
        it->options.server.context = it->gate;
        tp__gate_handlers(&handlers);
        error = tp_wanserver_create(&it->options, &handlers, &it->server);
    }
    tp__files_wipe_secrets(&it->files);
    return error;
}

static void wanserver_destroy(program *it) {
    tp_server_destroy(it->server);
    tp__gate_destroy(it->gate);
}

static void wait_for_stop(program *it) {
    tp_process_event event;
    while ((event = tp_process_wait(TP__FILES_CLOCK_MS)) != TP_PROCESS_STOP) {
        if (event == TP_PROCESS_RELOAD) {
            tp__program_reopen_log();
            tp__files_reload(&it->settings, &it->files, it->server);
        } else {
            tp__files_follow_clock(&it->files, it->server);
        }
    }
}

static int wanserver_serve(program *it) {
    tp__files_ban(&it->files, it->server);
    tp_err error = tp__gate_start(it->gate, it->server);
    if (error) {
        char text[TP_ADDRESS_TEXT + 32];
        char address[TP_ADDRESS_TEXT];
        snprintf(text, sizeof text, "cannot start on %s",
            tp_address_format(&it->options.server.address, address));
        return wanserver_fail(text, error);
    }
    print_listening(it);
    wait_for_stop(it);
    tp__program_print_stopping(name);
    tp__gate_stop(it->gate);
    error = tp__gate_wait(it->gate, -1);
    print_stats(it);
    return error ? wanserver_fail("cannot stop cleanly", error) : 0;
}

static int wanserver_run(program *it) {
    const tp__settings *settings = &it->settings;
    const tp__server_settings *server = &settings->server;
    tp_log_options log = tp__server_settings_log(server);
    tp__program_set_scheduling(name, (tp_priority)server->priority, &server->processors);
    tp_err error = tp__program_catch_requests();
    if (error) {
        return wanserver_fail("cannot catch stop requests", error);
    }
    tp__program_raise_descriptors(name, (unsigned)(settings->max_players + settings->max_waiting),
        (unsigned)settings->max_pending);
    error = tp_log_open(&log);
    if (error) {
        return wanserver_fail(server->log_file[0] ? server->log_file : "log", error);
    }
    warn_if_open(settings);
    error = wanserver_create(it);
    int code = error ? wanserver_fail("cannot create the server", error) : wanserver_serve(it);
    wanserver_destroy(it);
    tp_log_close();
    tp__program_print_log_losses(name);
    return code;
}

/* Checks a configuration; returns the exit code. Relations between settings were checked when they
 * were read; the rest is checked by creating the gate and the server, and opening the log. */
static int wanserver_check(program *it, const char *path) {
    bool can_log = tp__program_can_log(name, it->settings.server.log_file);
    tp_err error = wanserver_create(it);
    wanserver_destroy(it);
    if (error) {
        tp__program_print_error(name, "%s: %s", path, tp_err_text(error));
    }
    if (error || !can_log) {
        return 2;
    }
    printf("%s: %s: OK\n", name, path);
    return tp__program_finish_output(name);
}

static int wanserver_run_or_check(const tp__arguments *arguments) {
    static program it;
    char report[TP__CONFIG_REPORT];
    if (tp__settings_load(arguments->config, &it.settings, report, sizeof report) != TP_OK ||
        tp__files_load(&it.settings, &it.files, report, sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    return arguments->check_config ? wanserver_check(&it, arguments->config) : wanserver_run(&it);
}

int main(int count, char **words) {
    static tp__arguments arguments;
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
        printf("%s %s\n", name, tp_version());
        return tp__program_finish_output(name);
    }
    if (arguments.print_config) {
        tp__settings_print_example(stdout);
        return tp__program_finish_output(name);
    }
    if (arguments.genkey[0]) {
        return make_key(arguments.genkey);
    }
    if (arguments.show_key[0]) {
        return show_key(arguments.show_key);
    }
    if (!arguments.config[0]) {
        tp__program_print_error(name, "--config is missing: expected the configuration file");
        return 2;
    }
    return wanserver_run_or_check(&arguments);
}
