/*
 * The tables behind lan_settings.h. One thread, at start.
 */
#include "lanserver/program/lan_settings.h"

#include <string.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/config/relations.h"
#include "proto/bus.h"
#include "proto/frame.h"

/* By tp_queue_policy. Dropping is none of the bus's: it would lose in silence. */
static const char *const policy_names[] = {"disconnect", "refuse", NULL};
static const tp_queue_policy policies[] = {TP_QUEUE_DISCONNECT, TP_QUEUE_REFUSE};

#define DAY_MS 86400000u

/* One entry of the table. */
#define AT(field) offsetof(tp__settings, field)

/* clang-format off */
static const tp__setting settings_table[] = {
    {"listen", TP__SETTING_ADDRESS, AT(server.listen), 0, 0, NULL, "127.0.0.1:7400", NULL,
        "Where services connect: an address of this machine in the LAN, and a port.\n"
        "Port 0 asks the system for a free one; without a port it is refused."},
    {"allow_public_bind", TP__SETTING_BOOL, AT(allow_public_bind), 0, 0, NULL, "no", NULL,
        "Without it an address that others than the LAN can reach is refused."},
    {"allow", TP__SETTING_NETWORKS, AT(server.allow), 0, 0, NULL, "private", NULL,
        "Who may connect."},
    {"deny", TP__SETTING_NETWORKS, AT(server.deny), 0, 0, NULL, "", NULL,
        "Who may not, even if allowed above. Empty: nobody."},
    {"backlog", TP__SETTING_COUNT, AT(server.backlog), 1, 65535, NULL, "1024", NULL,
        "Connections that may wait to be accepted."},

    {"io", TP__SETTING_CHOICE, AT(server.io), 0, 0, tp__io_names, "auto", NULL,
        "How the system's completions are waited for; auto takes the best there is."},
    {"workers", TP__SETTING_COUNT, AT(server.workers), 0, 64, NULL, "0", NULL,
        "Threads that run the sessions; 0: one per processor."},
    {"running", TP__SETTING_COUNT, AT(server.running), 0, 64, NULL, "0", NULL,
        "iocp: how many of them run at once, not more than workers; 0: all."},
    {"nagle", TP__SETTING_BOOL, AT(server.nagle), 0, 0, NULL, "no", NULL,
        "TCP may hold small packets back to gather them."},
    {"send_buffer_zero", TP__SETTING_BOOL, AT(server.send_buffer_zero), 0, 0, NULL, "no", NULL,
        "iocp: send from the program's memory, without the system's buffer."},
    {"post_receive_buffers", TP__SETTING_BOOL, AT(server.post_receive_buffers), 0, 0, NULL, "no", NULL,
        "iocp: every session waits with a buffer of its own."},
    {"receive_buffer", TP__SETTING_BYTES, AT(server.receive_buffer), 4096, 1048576, NULL, "64k", NULL,
        "Bytes that a thread reads at once."},
    {"reserve_descriptors", TP__SETTING_COUNT, AT(server.reserve_descriptors), 0, 65536, NULL, "16",
        NULL,
        "Linux: descriptors, but at most a quarter of those that the system allows, not meant for\n"
        "services: for the log and the files that are read again.\n"
        "Who comes when no others are left waits until somebody goes."},

    {"max_sessions", TP__SETTING_COUNT, AT(max_sessions), 1, TP_MAX_SESSIONS, NULL, "1024", NULL,
        "Connections at once. A newcomer is told of all others: queue_packets must have room for\n"
        "so many, and queue_bytes for 30 bytes of each."},
    {"max_frame", TP__SETTING_BYTES, AT(server.max_frame), 1024, TP_PACKET_MAX, NULL, "1m", NULL,
        "The largest message, its 16 bytes of header included."},
    {"queue_bytes", TP__SETTING_BYTES, AT(server.queue_bytes), 1024, UINT32_MAX, NULL, "16m", NULL,
        "What may wait to be sent to one session, in bytes; at least max_frame and 4 ..."},
    {"queue_packets", TP__SETTING_COUNT, AT(server.queue_packets), 1, 0xFFFFFF, NULL, "65536", NULL,
        "... and in packets."},
    {"queue_policy", TP__SETTING_CHOICE, AT(queue_policy), 0, 0, policy_names, "disconnect", NULL,
        "At that limit the session is ended, or refuses more. Either way the messages go\n"
        "back to their senders."},
    {"reserve", TP__SETTING_BYTES, AT(server.reserve), 0, (uint64_t)1 << 30, NULL, "4m", NULL,
        "Memory for messages that is made ready at start."},
    {"memory_limit", TP__SETTING_BYTES, AT(server.memory_limit), 0, (uint64_t)1 << 40, NULL, "0",
        NULL,
        "Memory that messages may take in all. Beyond it the session with the largest queue is\n"
        "ended first. 0: no limit; else at least 1m, reserve and queue_bytes."},
    {"idle_timeout", TP__SETTING_TIME, AT(server.idle_timeout), 0, DAY_MS, NULL, "60s", NULL,
        "A session that says nothing for so long, not even in answer to PING, is ended.\n"
        "0: never; else at least 100ms."},
    {"ping_interval", TP__SETTING_TIME, AT(server.ping_interval), 0, DAY_MS, NULL, "30s", NULL,
        "Silence after which a session is sent PING. 0: never; else at least 100ms, and less than\n"
        "idle_timeout."},
    {"drain_timeout", TP__SETTING_TIME, AT(server.drain_timeout), 0, 600000, NULL, "5s", NULL,
        "At the end: time for confirmations to come, and for queues to empty; both together take\n"
        "2s more at most."},

    {"hello_timeout", TP__SETTING_TIME, AT(hello_timeout), 100, 600000, NULL, "5s", NULL,
        "A session must say HELLO within this time."},
    {"unconfirmed_limit", TP__SETTING_COUNT, AT(unconfirmed_limit), 1, TP_BUS_UNCONFIRMED_MAX, NULL,
        "65536", NULL,
        "Messages that a peer may leave unconfirmed before more are returned to their senders.\n"
        "When it dies they come back: queue_packets should have room for so many, and queue_bytes\n"
        "for 32 bytes of each."},
    {"max_services", TP__SETTING_COUNT, AT(max_services), 1, 65536, NULL, "4096", NULL,
        "Different services' names, in the life of the process."},

    {"priority", TP__SETTING_CHOICE, AT(server.priority), 0, 0, tp__priority_names, "normal", NULL,
        "How it stands to other programs of this machine. normal and high also ask to be run\n"
        "soon; high needs a permission of the system's. idle: only what others leave over.\n"
        "wanserver runs at low, so that players do not hold up what goes over the bus.\n"
        "On Linux it counts within a scheduling group only: see docs/operations.md."},
    {"processors", TP__SETTING_PROCESSORS, AT(server.processors), 0, 0, NULL, "all", NULL,
        "The processors it may use: the rest is left to others."},

    {"log_level", TP__SETTING_CHOICE, AT(server.log_level), 0, 0, tp__log_level_names, "info", NULL,
        "What is worth a line in the log."},
    {"log_file", TP__SETTING_TEXT, AT(server.log_file), 0, TP__LOG_FILE_MAX, NULL, "", NULL,
        "The log's file, appended to; opened again at SIGHUP (on Linux). Empty: standard error."},
};

#define ARGUMENT(field) offsetof(tp__arguments, field)

static const tp__setting arguments_table[] = {
    {"config", TP__SETTING_TEXT, ARGUMENT(config), 0, sizeof((tp__arguments *)NULL)->config - 1, NULL,
        "", NULL,
        "The configuration file. Without one the standard values are used."},
    {"check-config", TP__SETTING_BOOL, ARGUMENT(check_config), 0, 0, NULL, "no", NULL,
        "Read the configuration, say what is wrong with it, and end."},
    {"print-config", TP__SETTING_BOOL, ARGUMENT(print_config), 0, 0, NULL, "no", NULL,
        "Write an example of a configuration file to standard output, and end."},
    {"version", TP__SETTING_BOOL, ARGUMENT(version), 0, 0, NULL, "no", NULL,
        "Say the version, and end."},
    {"help", TP__SETTING_BOOL, ARGUMENT(help), 0, 0, NULL, "no", NULL,
        "Say this, and end."},
};
/* clang-format on */

#define SETTINGS  (sizeof settings_table / sizeof settings_table[0])
#define ARGUMENTS (sizeof arguments_table / sizeof arguments_table[0])

tp_err tp__arguments_read(
    int count, char *const *words, tp__arguments *arguments, char *report, size_t room) {
    return tp__options_read(arguments_table, ARGUMENTS, count, words, arguments, report, room);
}

void tp__arguments_print_help(FILE *file) {
    fputs("usage: lanserver [options]\n\n"
          "The bus of a LAN: services connect to it with lanclient and send each other messages.\n"
          "Ctrl-C or SIGTERM ends it gently, a second one at once; SIGHUP has it open its log\n"
          "file again.\n\n",
        file);
    tp__options_print_help(arguments_table, ARGUMENTS, file);
}

/* A newcomer is told of all who are there in one go: WELCOME, and a PEER_UP for each of the others,
 * of at least so many bytes (names of one letter). */
#define LEAST_PEER_UP (TP_FRAME_HEADER + TP_BUS_HEADER + TP_BUS_PEER_UP_FIXED + 2 * (2 + 1))

static void check_together(const tp__relations *all, const tp__settings *settings) {
    const tp__server_settings *server = &settings->server;
    tp__server_settings_check(all, server);
    bool reachable =
        tp_address_is_wildcard(&server->listen) || !tp_address_is_private(&server->listen);
    tp__relation_must(all, !reachable || settings->allow_public_bind, "listen", "allow_public_bind",
        "an address of the LAN, or allow_public_bind = yes");
    tp__relation_must(all, settings->max_sessions <= server->queue_packets, "max_sessions",
        "queue_packets",
        "no more sessions than queue_packets: a newcomer is told of each of the others at once");
    tp__relation_must(all, settings->max_sessions * LEAST_PEER_UP <= server->queue_bytes,
        "max_sessions", "queue_bytes",
        "%u bytes of queue_bytes for each session: a newcomer is told of each of the others at "
        "once",
        (unsigned)LEAST_PEER_UP);
}

tp_err tp__settings_load(const char *path, tp__settings *settings, char *report, size_t room) {
    memset(settings, 0, sizeof *settings);
    tp_err error = tp__config_load(settings_table, SETTINGS, path, settings, report, room);
    if (error) {
        return error;
    }
    tp__report wrong = tp__report_begin(report, room);
    const tp__relations all = {settings_table, SETTINGS, settings, path, &wrong};
    check_together(&all, settings);
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
