/*
 * wanserver: the program. Reads what it is told, runs the gate on a WAN server until it is asked to
 * stop, says what became of the players and their messages.
 *
 * Exit codes: 0 stopped as asked, 1 could not run, 2 told something that cannot be, 3 asked to stop
 * a second time.
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

/* What runs. */
typedef struct program {
    tp__settings settings;
    tp__files files;
    tp_wanserver_options options;
    tp__gate_options gate_options;
    tp__gate *gate;
    tp_server *server;
} program;

static int fail(const char *what, tp_err error) {
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
        tp__program_say(name, "%s: is there already: it stays as it is", path);
        return 1;
    }
    if (error) {
        return fail(path, error);
    }
    print_key(public_key);
    return tp__program_finish_output(name);
}

static int show_key(const char *path) {
    char report[TP__CONFIG_REPORT];
    tp_key_pair pair;
    tp_err error = tp__key_file_load(path, pair.private_key, report, sizeof report);
    if (error) {
        tp__program_say_report(report);
        return 2;
    }
    error = tp_key_pair_from_private(pair.private_key, &pair);
    if (!error) {
        print_key(pair.public_key);
    }
    tp_secure_wipe(&pair, sizeof pair);
    return error ? fail(path, error) : tp__program_finish_output(name);
}

/* ---- what it says ---------------------------------------------------------------------------- */

static void say_listening(const program *it) {
    tp_address address = tp_server_address(it->server);
    unsigned workers = it->options.server.workers;
    char text[TP_ADDRESS_TEXT];
    tp__program_print("%s: listening on %s (io %s, workers %u)\n", name,
        tp_address_format(&address, text), tp_server_io(it->server),
        workers ? workers : tp_processor_count());
}

static void warn_if_open(const tp__settings *settings) {
    if (settings->auth == TP_AUTH_OPEN) {
        TP_LOG(TP_LOG_WARNING, "auth = open: WHOEVER REACHES THIS ADDRESS MAY PLAY. No tokens are "
                               "asked for, accounts are "
                               "unknown to the service, and only addresses can be banned. For "
                               "tests, not for the public.");
    }
}

/* Lines of name=value, each with the part's name in front. */
static void say_lines(const char *part, const char *lines) {
    while (*lines != '\0') {
        size_t length = strcspn(lines, "\n");
        tp__program_print("%s: %s %.*s\n", name, part, (int)length, lines);
        lines += length + (lines[length] == '\n');
    }
}

static void say_stats(const tp_server *server) {
    tp_wanserver_stats now = {.size = sizeof now};
    tp_wanserver_get_stats(server, &now);
    tp_server_stats core = {.size = sizeof core};
    tp_server_get_stats(server, &core);
    tp__program_print("%s: wan denied=%" PRIu64 "\n", name, core.denied);
    tp__program_print("%s: wan full=%" PRIu64 "\n", name, core.full);
    tp__program_print("%s: wan cut_short=%" PRIu64 "\n", name, core.cut_short);
    tp__program_print("%s: wan memory_ended=%" PRIu64 "\n", name, core.memory_ended);
    tp__program_print("%s: wan memory_held=%" PRIu64 "\n", name, core.memory_held);
#define SAY(member) tp__program_print("%s: wan " #member "=%" PRIu64 "\n", name, now.member);
    SAY(established)
    SAY(banned)
    SAY(limited)
    SAY(evicted)
    SAY(crowded)
    SAY(late)
    SAY(gone)
    SAY(foreign)
    SAY(other_version)
    SAY(expired)
    SAY(long_lived)
    SAY(unknown_key)
    SAY(forged)
    SAY(replayed)
    SAY(replay_full)
    SAY(busy)
    SAY(not_authentic)
    SAY(diffie_hellman)
    SAY(overdue)
    SAY(not_ready)
    SAY(tampered)
    SAY(rate_limited)
    SAY(key_limit)
    SAY(records_sealed)
    SAY(records_opened)
#undef SAY
}

static void say_account(const program *it) {
    char report[TP__GATE_REPORT_ROOM];
    tp__program_print("%s: stopped\n", name);
    say_stats(it->server);
    (void)tp__gate_report(it->gate, report, sizeof report);
    say_lines("gate", report);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The gate is the server's context, the server is what the gate starts. */
static tp_err create(program *it) {
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

static void destroy(program *it) {
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

static int serve(program *it) {
    tp__files_ban(&it->files, it->server);
    tp_err error = tp__gate_start(it->gate, it->server);
    if (error) {
        char text[TP_ADDRESS_TEXT + 32];
        char address[TP_ADDRESS_TEXT];
        snprintf(text, sizeof text, "cannot start on %s",
            tp_address_format(&it->options.server.address, address));
        return fail(text, error);
    }
    say_listening(it);
    wait_for_stop(it);
    tp__program_print_stopping(name);
    tp__gate_stop(it->gate);
    error = tp__gate_wait(it->gate, -1);
    say_account(it);
    return error ? fail("cannot stop in order", error) : 0;
}

static int run(program *it) {
    const tp__settings *settings = &it->settings;
    const tp__server_settings *server = &settings->server;
    tp_log_options log = tp__server_settings_log(server);
    tp__program_take_share(name, (tp_priority)server->priority, &server->processors);
    tp_err error = tp__program_catch_requests();
    if (error) {
        return fail("cannot be told to stop", error);
    }
    tp__program_raise_descriptors(name, (unsigned)(settings->max_players + settings->max_waiting),
        (unsigned)settings->max_pending);
    error = tp_log_open(&log);
    if (error) {
        return fail(server->log_file[0] ? server->log_file : "log", error);
    }
    warn_if_open(settings);
    error = create(it);
    int code = error ? fail("cannot be set up", error) : serve(it);
    destroy(it);
    tp_log_close();
    tp__program_say_log_losses(name);
    return code;
}

/* What the settings ask of each other was looked at when they were read; what is left shows when
 * server and gate are made, and when the log is to be written. */
static int check(program *it, const char *path) {
    bool can_log = tp__program_can_log(name, it->settings.server.log_file);
    tp_err error = create(it);
    destroy(it);
    if (error) {
        tp__program_say(name, "%s: %s", path, tp_err_text(error));
    }
    if (error || !can_log) {
        return 2;
    }
    printf("%s: %s is good\n", name, path);
    return tp__program_finish_output(name);
}

static int run_or_check(const tp__arguments *arguments) {
    static program it;
    char report[TP__CONFIG_REPORT];
    if (tp__settings_load(arguments->config, &it.settings, report, sizeof report) != TP_OK ||
        tp__files_load(&it.settings, &it.files, report, sizeof report) != TP_OK) {
        tp__program_say_report(report);
        return 2;
    }
    return arguments->check_config ? check(&it, arguments->config) : run(&it);
}

int main(int count, char **words) {
    static tp__arguments arguments;
    char report[TP__CONFIG_REPORT];
    tp_process_guard();
    if (tp__arguments_read(count - 1, words + 1, &arguments, report, sizeof report) != TP_OK) {
        tp__program_say_report(report);
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
        tp__program_say(name, "--config is missing: expected the configuration file");
        return 2;
    }
    return run_or_check(&arguments);
}
