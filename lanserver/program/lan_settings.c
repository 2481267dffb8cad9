/*
 * The tables of the settings in lan_settings.h, their conditions, and the options that they become.
 * One thread, at start.
 */
#include "lanserver/program/lan_settings.h"

#include <string.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/config/relations.h"
#include "proto/bus.h"
#include "proto/frame.h"

/* In the order of `policies`. The bus does not offer to drop: that would lose messages without a
 * report. */
static const char *const policy_names[] = {"disconnect", "refuse", NULL};
static const tp_queue_policy policies[] = {TP_QUEUE_DISCONNECT, TP_QUEUE_REFUSE};

#define DAY_MS 86400000u

#define AT(field) offsetof(tp__settings, field)

/* clang-format off */
static const tp__setting settings_table[] = {
    {"listen", TP__SETTING_ADDRESS, AT(server.listen), 0, 0, NULL, "127.0.0.1:7400", NULL,
        "Address and port that services connect to: an address of this machine in the private\n"
        "network. The port is required; 0 lets the system choose a free one."},
    {"allow_public_bind", TP__SETTING_BOOL, AT(allow_public_bind), 0, 0, NULL, "no", NULL,
        "Accept a wildcard, or an address outside the private networks, in `listen`."},
    {"allow", TP__SETTING_NETWORKS, AT(server.allow), 0, 0, NULL, "private", NULL,
        "Networks that may connect."},
    {"deny", TP__SETTING_NETWORKS, AT(server.deny), 0, 0, NULL, "", NULL,
        "Networks that are refused even if `allow` lists them. Empty: none."},
    {"backlog", TP__SETTING_COUNT, AT(server.backlog), 1, 65535, NULL, "1024", NULL,
        "New connections that may wait until the program accepts them."},

    {"io", TP__SETTING_CHOICE, AT(server.io), 0, 0, tp__io_names, "auto", NULL,
        "The system's interface for network events; auto selects the best one available."},
    {"workers", TP__SETTING_COUNT, AT(server.workers), 0, 64, NULL, "0", NULL,
        "Threads that serve the sessions. 0: one per processor."},
    {"running", TP__SETTING_COUNT, AT(server.running), 0, 64, NULL, "0", NULL,
        "iocp only: how many workers run at the same time, at most `workers`. 0: all of them."},
    {"nagle", TP__SETTING_BOOL, AT(server.nagle), 0, 0, NULL, "no", NULL,
        "TCP may delay small packets to combine them (Nagle's algorithm)."},
    {"send_buffer_zero", TP__SETTING_BOOL, AT(server.send_buffer_zero), 0, 0, NULL, "no", NULL,
        "iocp only: send from the program's memory, without the system's send buffer."},
    {"post_receive_buffers", TP__SETTING_BOOL, AT(server.post_receive_buffers), 0, 0, NULL, "no",
        NULL,
        "iocp only: each session has a receive buffer of its own while it waits for data."},
    {"receive_buffer", TP__SETTING_BYTES, AT(server.receive_buffer), 4096, 1048576, NULL, "64k",
        NULL,
        "Bytes that a thread reads with one call."},
    {"reserve_descriptors", TP__SETTING_COUNT, AT(server.reserve_descriptors), 0, 65536, NULL, "16",
        NULL,
        "Linux only: file descriptors that connections of services never use, for the log and the\n"
        "files that are read again; at most a quarter of those that the system allows. When no\n"
        "others are left, new connections wait until one is closed."},

    {"max_sessions", TP__SETTING_COUNT, AT(max_sessions), 1, TP_MAX_SESSIONS, NULL, "1024", NULL,
        "Connections at the same time. A new peer gets a message about every other peer at once:\n"
        "so `queue_packets` must be at least this number, and `queue_bytes` 30 times this number."},
    {"max_frame", TP__SETTING_BYTES, AT(server.max_frame), 1024, TP_PACKET_MAX, NULL, "1m", NULL,
        "The largest message, including its 16 bytes of header."},
    {"queue_bytes", TP__SETTING_BYTES, AT(server.queue_bytes), 1024, UINT32_MAX, NULL, "16m", NULL,
        "Bytes that may wait to be sent to one session; at least `max_frame` plus 4."},
    {"queue_packets", TP__SETTING_COUNT, AT(server.queue_packets), 1, 0xFFFFFF, NULL, "65536", NULL,
        "Packets that may wait to be sent to one session."},
    {"queue_policy", TP__SETTING_CHOICE, AT(queue_policy), 0, 0, policy_names, "disconnect", NULL,
        "What happens at `queue_bytes` or `queue_packets`. disconnect: the session is ended.\n"
        "refuse: it accepts no more messages. In both cases the messages return to their senders."},
    {"reserve", TP__SETTING_BYTES, AT(server.reserve), 0, (uint64_t)1 << 30, NULL, "4m", NULL,
        "Memory for messages that is allocated at start."},
    {"memory_limit", TP__SETTING_BYTES, AT(server.memory_limit), 0, (uint64_t)1 << 40, NULL, "0",
        NULL,
        "Memory that messages may use in total. Beyond it the session with the largest queue is\n"
        "ended first. 0: no limit; otherwise at least 1m, `reserve` and `queue_bytes`."},
    {"idle_timeout", TP__SETTING_TIME, AT(server.idle_timeout), 0, DAY_MS, NULL, "60s", NULL,
        "A session that sends nothing for this time, not even an answer to PING, is ended.\n"
        "0: never; otherwise at least 100ms."},
    {"ping_interval", TP__SETTING_TIME, AT(server.ping_interval), 0, DAY_MS, NULL, "30s", NULL,
        "A session that sends nothing for this time is sent PING. 0: never; otherwise at least\n"
        "100ms, and less than `idle_timeout`."},
    {"drain_timeout", TP__SETTING_TIME, AT(server.drain_timeout), 0, 600000, NULL, "5s", NULL,
        "At a stop: how long each step may take, first for acknowledgements to arrive, then for\n"
        "queues to be sent. The whole stop takes at most 2s more than this value."},

    {"hello_timeout", TP__SETTING_TIME, AT(hello_timeout), 100, 600000, NULL, "5s", NULL,
        "A new connection must send HELLO within this time."},
    {"unconfirmed_limit", TP__SETTING_COUNT, AT(unconfirmed_limit), 1, TP_BUS_UNCONFIRMED_MAX, NULL,
        "65536", NULL,
        "Messages that a peer may leave unconfirmed; further ones return to their senders. When\n"
        "the peer is lost, all of them return: so `queue_packets` should be at least as large,\n"
        "and `queue_bytes` 32 times as large."},
    {"max_services", TP__SETTING_COUNT, AT(max_services), 1, 65536, NULL, "4096", NULL,
        "Names of different services in the life of the process."},

    {"priority", TP__SETTING_CHOICE, AT(server.priority), 0, 0, tp__priority_names, "normal", NULL,
        "Priority of this program among the programs of the machine. normal and high also ask for\n"
        "low latency; high needs a permission of the system. idle: only processor time that no\n"
        "other program wants. wanserver runs at low, so that players do not delay the bus.\n"
        "On Linux this counts only within a scheduling group: see docs/tuning.md."},
    {"processors", TP__SETTING_PROCESSORS, AT(server.processors), 0, 0, NULL, "all", NULL,
        "The processors that this program may use."},

    {"log_level", TP__SETTING_CHOICE, AT(server.log_level), 0, 0, tp__log_level_names, "info", NULL,
        "The lowest level of lines that are logged; off: none."},
    {"log_file", TP__SETTING_TEXT, AT(server.log_file), 0, TP__LOG_FILE_MAX, NULL, "", NULL,
        "The log file, appended to; opened again at SIGHUP (Linux only). Empty: standard error."},
};

#define ARGUMENT(field) offsetof(tp__arguments, field)

static const tp__setting arguments_table[] = {
    {"config", TP__SETTING_TEXT, ARGUMENT(config), 0, sizeof((tp__arguments *)NULL)->config - 1,
        NULL, "", "FILE",
        "The configuration file. Without it the default values are used."},
    {"check-config", TP__SETTING_BOOL, ARGUMENT(check_config), 0, 0, NULL, "no", NULL,
        "Check the configuration, print its errors and exit."},
    {"print-config", TP__SETTING_BOOL, ARGUMENT(print_config), 0, 0, NULL, "no", NULL,
        "Print an example of a configuration file and exit."},
    {"version", TP__SETTING_BOOL, ARGUMENT(version), 0, 0, NULL, "no", NULL,
        "Print the version and exit."},
    {"help", TP__SETTING_BOOL, ARGUMENT(help), 0, 0, NULL, "no", NULL,
        "Print this help and exit."},
};
/* clang-format on */

#define SETTINGS  (sizeof settings_table / sizeof settings_table[0])
#define ARGUMENTS (sizeof arguments_table / sizeof arguments_table[0])

tp_err tp__arguments_read(
    int count, char *const *words, tp__arguments *arguments, char *report, size_t report_size) {
    return tp__options_read(
        arguments_table, ARGUMENTS, count, words, arguments, report, report_size);
}

void tp__arguments_print_help(FILE *file) {
    fputs("usage: lanserver [options]\n\n"
          "The bus of a private network: services connect to it with lanclient and exchange\n"
          "messages. Ctrl-C or SIGTERM stops it in order, a second one at once; SIGHUP makes it\n"
          "open its log file again.\n\n",
        file);
    tp__options_print_help(arguments_table, ARGUMENTS, file);
}

/* A new peer is sent at once WELCOME and, for each other peer, a PEER_UP of at least so many bytes
 * (with names of one letter). */
#define LEAST_PEER_UP (TP_FRAME_HEADER + TP_BUS_HEADER + TP_BUS_PEER_UP_FIXED + 2 * (2 + 1))

static void lan_settings_check(const tp__relations *all, const tp__settings *settings) {
    const tp__server_settings *server = &settings->server;
    tp__server_settings_check(all, server);
    bool reachable =
        tp_address_is_wildcard(&server->listen) || !tp_address_is_private(&server->listen);
    tp__relation_must(all, !reachable || settings->allow_public_bind, "listen", "allow_public_bind",
        "a private address, or allow_public_bind = yes");
    tp__relation_must(all, settings->max_sessions <= server->queue_packets, "max_sessions",
        "queue_packets",
        "no more sessions than queue_packets: a new peer gets a message about every other peer at "
        "once");
    tp__relation_must(all, settings->max_sessions * LEAST_PEER_UP <= server->queue_bytes,
        "max_sessions", "queue_bytes",
        "%u bytes of queue_bytes for each session: a new peer gets a message about every other "
        "peer at once",
        (unsigned)LEAST_PEER_UP);
}

tp_err tp__settings_load(
    const char *path, tp__settings *settings, char *report, size_t report_size) {
    memset(settings, 0, sizeof *settings);
    tp_err error = tp__config_load(settings_table, SETTINGS, path, settings, report, report_size);
    if (error) {
        return error;
    }
    tp__report wrong = tp__report_begin(report, report_size);
    const tp__relations all = {settings_table, SETTINGS, settings, path, &wrong};
    lan_settings_check(&all, settings);
    return tp__report_end(&wrong);
}

void tp__settings_print_example(FILE *file) {
    tp__config_print_example(settings_table, SETTINGS, file);
}

void tp__settings_apply(const tp__settings *settings, tp__hub_options *options) {
    tp__hub_defaults(options);
    options->hello_timeout_ms = (unsigned)settings->hello_timeout;
    options->unconfirmed_limit = (unsigned)settings->unconfirmed_limit;
    options->max_services = (unsigned)settings->max_services;

    tp_server_options *server = &options->server;
    tp__server_settings_apply(&settings->server, server);
    server->allow_public_bind = settings->allow_public_bind;
    server->max_sessions = (unsigned)settings->max_sessions;
    server->queue_policy = policies[settings->queue_policy];
}
