/*
 * The program lanserver: runs the hub, and prints its statistics. What every server program does is
 * in core/config/program_run.h, with the exit codes. The main thread only.
 */
#include <inttypes.h>

#include "core/config/config.h"
#include "core/config/program.h"
#include "core/config/program_run.h"
#include "lanserver/program/lan_settings.h"

static const char name[] = "lanserver";

/* The program's state. */
typedef struct lanserver {
    tp__settings settings;
    tp__hub_options options;
    tp__hub *hub;
} lanserver;

static tp_err lanserver_create(void *state) {
    lanserver *it = state;
    tp__settings_apply(&it->settings, &it->options);
    return tp__hub_create(&it->options, &it->hub);
}

static void lanserver_destroy(void *state) {
    lanserver *it = state;
    tp__hub_destroy(it->hub);
}

static tp_err lanserver_start(void *state) {
    lanserver *it = state;
    tp_err error = tp__hub_start(it->hub);
    if (!error) {
        tp_server *server = tp__hub_server(it->hub);
        tp_address address = tp_server_address(server);
        tp__program_print_listening(
            name, &address, tp_server_io(server), it->options.server.workers);
    }
    return error;
}

/* No file but the log is read again, and nothing is done regularly. */
static void lanserver_idle(void *state) {
    (void)state;
}

static tp_err lanserver_stop(void *state) {
    lanserver *it = state;
    tp__hub_stop(it->hub);
    return tp__hub_wait(it->hub, -1);
}

static void lanserver_print_stats(void *state) {
    lanserver *it = state;
    tp__hub_stats stats;
    tp__hub_get_stats(it->hub, &stats);
    tp__program_print("lanserver: stopped: accepted %" PRIu64 " = delivered %" PRIu64
                      " + returned %" PRIu64 " + outstanding %" PRIu64 "\n",
        stats.accepted, stats.delivered, stats.returned, stats.outstanding);
    tp_server_stats server = {.size = sizeof server};
    tp_server_get_stats(tp__hub_server(it->hub), &server);
    tp__program_print("lanserver: memory held %" PRIu64 ", sessions ended for it %" PRIu64 "\n",
        server.memory_held, server.memory_ended);
}

static const tp__program program = {
    .name = name,
    .usage =
        "Usage: lanserver [OPTION]...\n\n"
        "The bus of a private network: services connect to it with lanclient and exchange\n"
        "messages. Ctrl-C or SIGTERM stops it in order, a second one at once; SIGHUP makes it\n"
        "open its log file again.\n",
    .options = tp__arguments_table,
    .settings = tp__settings_table,
    .create = lanserver_create,
    .start = lanserver_start,
    .reload = lanserver_idle,
    .tick = lanserver_idle,
    .tick_ms = -1,
    .stop = lanserver_stop,
    .print_stats = lanserver_print_stats,
    .destroy = lanserver_destroy,
};

int main(int count, char **words) {
    static tp__program_options options;
    static lanserver it;
    char report[TP__CONFIG_REPORT];
    int code = tp__program_begin(&program, count, words, &options);
    if (code != TP__PROGRAM_CONTINUE) {
        return code;
    }
    if (tp__settings_load(options.config, &it.settings, report, sizeof report) != TP_OK) {
        tp__program_print_report(report);
        return 2;
    }
    const tp__server_settings *server = &it.settings.server;
    return options.check_config
               ? tp__program_check(&program, server, options.config, &it)
               : tp__program_run(&program, server, (unsigned)it.settings.max_sessions, 0, &it);
}
