/*
 * The program wanserver: runs the gate on a WAN server, prints the statistics of both, and makes
 * keys. What every server program does is in core/config/program_run.h, with the exit codes. The
 * main thread only.
 */
#include <stdio.h>
#include <string.h>

#include "core/config/config.h"
#include "core/config/program.h"
#include "core/config/program_run.h"
#include "proto/keys.h"
#include "wanserver/files/key_file.h"
#include "wanserver/program/program_files.h"
#include "wanserver/program/wan_settings.h"
#include "wanserver/wan_stats.h"

static const char name[] = "wanserver";

/* The program's state. */
typedef struct wanserver {
    tp__settings settings;
    tp__files files;
    tp_wanserver_options options;
    tp__gate_options gate_options;
    tp__gate *gate;
    tp_server *server;
} wanserver;

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

static void wanserver_print_stats(void *state) {
    wanserver *it = state;
    char text[TP__GATE_STATS_TEXT_SIZE > TP__WAN_STATS_TEXT_SIZE ? TP__GATE_STATS_TEXT_SIZE
                                                                 : TP__WAN_STATS_TEXT_SIZE];
    tp__program_print("%s: stopped\n", name);
    (void)tp__wan_stats_text(it->server, text, sizeof text);
    print_lines("wan", text);
    (void)tp__gate_stats_text(it->gate, text, sizeof text);
    print_lines("gate", text);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Creates both: the gate is the server's context, and starting the gate starts the server. */
static tp_err wanserver_create(void *state) {
    wanserver *it = state;
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

static void wanserver_destroy(void *state) {
    wanserver *it = state;
    tp_server_destroy(it->server);
    tp__gate_destroy(it->gate);
}

static tp_err wanserver_start(void *state) {
    wanserver *it = state;
    warn_if_open(&it->settings);
    tp__files_ban(&it->files, it->server);
    tp_err error = tp__gate_start(it->gate, it->server);
    if (!error) {
        tp_address address = tp_server_address(it->server);
        tp__program_print_listening(
            name, &address, tp_server_io(it->server), it->options.server.workers);
    }
    return error;
}

static void wanserver_reload(void *state) {
    wanserver *it = state;
    tp__files_reload(&it->settings, &it->files, it->server);
}

static void wanserver_tick(void *state) {
    wanserver *it = state;
    tp__files_follow_clock(&it->files, it->server);
}

static tp_err wanserver_stop(void *state) {
    wanserver *it = state;
    tp__gate_stop(it->gate);
    return tp__gate_wait(it->gate, -1);
}

static const tp__program program = {
    .name = name,
    .usage =
        "Usage: wanserver --config FILE [--check-config]\n"
        "       wanserver --genkey FILE\n"
        "       wanserver --show-key FILE\n"
        "       wanserver --print-config\n\n"
        "The gate: players connect to it over the Internet, and it forwards messages between\n"
        "them and a service on lanserver's bus. Ctrl-C or SIGTERM stops it in order, a second\n"
        "one at once; SIGHUP makes it open its log file and read its key ring and bans again.\n",
    .options = tp__arguments_table,
    .settings = tp__settings_table,
    .create = wanserver_create,
    .start = wanserver_start,
    .reload = wanserver_reload,
    .tick = wanserver_tick,
    .tick_ms = TP__FILES_CLOCK_MS,
    .stop = wanserver_stop,
    .print_stats = wanserver_print_stats,
    .destroy = wanserver_destroy,
};

static int wanserver_run_or_check(const tp__program_options *options) {
    static wanserver it;
    char report[TP__CONFIG_REPORT];
    const tp__settings *settings = &it.settings;
    if (tp__settings_load(options->config, &it.settings, report, sizeof report) != TP_OK ||
        tp__files_load(&it.settings, &it.files, report, sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    if (options->check_config) {
        return tp__program_check(&program, &settings->server, options->config, &it);
    }
    unsigned players = (unsigned)(settings->max_players + settings->max_waiting);
    return tp__program_run(
        &program, &settings->server, players, (unsigned)settings->max_pending, &it);
}

int main(int count, char **words) {
    static tp__arguments arguments;
    int code = tp__program_begin(&program, count, words, &arguments);
    if (code != TP__PROGRAM_CONTINUE) {
        return code;
    }
    if (arguments.genkey[0]) {
        return make_key(arguments.genkey);
    }
    if (arguments.show_key[0]) {
        return show_key(arguments.show_key);
    }
    if (!arguments.program.config[0]) {
        tp__program_print_error(name, "--config is missing: expected the configuration file");
        return 2;
    }
    return wanserver_run_or_check(&arguments.program);
}
