/*
 * The table of the settings in lan_settings.h, their conditions, and the options that they become.
 * What wanserver has too is in core/config/server_table.c. One thread, at start.
 */
#include "lanserver/program/lan_settings.h"

#include <assert.h>

#include "core/config/relations.h"
#include "core/config/server_table.h"
#include "os/compiler.h"
#include "proto/bus.h"
#include "proto/frame.h"

/* In the order of `policies`. The bus does not offer to drop: that would lose messages without a
 * report. */
static const char *const policy_names[] = {"disconnect", "refuse", NULL};
static const tp_queue_policy policies[] = {TP_QUEUE_DISCONNECT, TP_QUEUE_REFUSE};

#define AT(field) offsetof(tp__settings, field)

/* clang-format off */
static const tp__setting network[] = {
    {"allow_public_bind", TP__SETTING_BOOL, AT(allow_public_bind), .default_value = "no", .help =
        "Accept a wildcard, or an address outside the private networks, in `listen`."},
    {"max_sessions", TP__SETTING_COUNT, AT(max_sessions), 1, TP_MAX_SESSIONS,
        .default_value = "1024", .unit = "connections", .help =
        "Connections at the same time. A new peer gets a message about every other peer at once:\n"
        "so `queue_packets` must be at least this number, and `queue_bytes` 30 times this number."},
};

static const tp__setting messages[] = {
    {"queue_policy", TP__SETTING_CHOICE, AT(queue_policy), .choices = policy_names,
        .default_value = "disconnect", .help =
        "What happens at `queue_bytes` or `queue_packets`. disconnect: the session is ended.\n"
        "refuse: it accepts no more messages. In both cases the messages return to their senders."},
};

static const tp__setting bus[] = {
    {"hello_timeout", TP__SETTING_TIME, AT(hello_timeout), 100, 600000, .default_value = "5s",
        .help =
        "A new connection must send HELLO within this time."},
    {"unconfirmed_limit", TP__SETTING_COUNT, AT(unconfirmed_limit), 1, TP_BUS_UNCONFIRMED_MAX,
        .default_value = "65536", .unit = "messages", .help =
        "Messages that a peer may leave unconfirmed; further ones return to their senders. When\n"
        "the peer is lost, all of them return: so `queue_packets` should be at least as large,\n"
        "and `queue_bytes` 32 times as large."},
    {"max_services", TP__SETTING_COUNT, AT(max_services), 1, 65536, .default_value = "4096",
        .unit = "services", .help =
        "Names of different services in the life of the process."},
};
/* clang-format on */

static const tp__setting_group settings_groups[] = {
    {TP__GROUP_NETWORK, network, TP_COUNT_OF(network)},
    {TP__GROUP_ACCESS, NULL, 0},
    {"Bus", bus, TP_COUNT_OF(bus)},
    {TP__GROUP_MESSAGES, messages, TP_COUNT_OF(messages)},
    {TP__GROUP_MEMORY, NULL, 0},
    {TP__GROUP_TIMES, NULL, 0},
    {TP__GROUP_PRIORITY, NULL, 0},
    {TP__GROUP_THREADS, NULL, 0},
    {TP__GROUP_LOG, NULL, 0},
    {NULL, NULL, 0},
};

const tp__setting_table *tp__settings_table(void) {
    static tp__setting_table table;
    static_assert(offsetof(tp__settings, server) == 0, "the shared entries' offsets");
    if (table.count == 0) {
        tp__setting_table_make(&table, settings_groups, tp__server_groups, NULL);
    }
    return &table;
}

const tp__setting_table *tp__arguments_table(void) {
    static const tp__setting_group groups[] = {
        {TP__GROUP_CONFIGURATION, NULL, 0},
        {TP__GROUP_PROGRAM, NULL, 0},
        {NULL, NULL, 0},
    };
    static tp__setting_table table;
    if (table.count == 0) {
        tp__setting_table_make(&table, groups, tp__program_groups, NULL);
    }
    return &table;
}

/* A new peer is sent at once WELCOME and, for each other peer, a PEER_UP of at least so many bytes
 * (with names of one letter). */
#define LEAST_PEER_UP (TP_FRAME_HEADER + TP_BUS_HEADER + TP_BUS_PEER_UP_FIXED + 2 * (2 + 1))

static void lan_settings_check(const tp__relations *all) {
    const tp__settings *settings = all->target;
    const tp__server_settings *server = &settings->server;
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
    return tp__server_settings_load(tp__settings_table(), lan_settings_check, path, settings,
        sizeof *settings, report, report_size);
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
