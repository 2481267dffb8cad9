/*
 * The settings of the program wanserver: its configuration file and its command line. One thread,
 * at start.
 */
#ifndef TWINPORT_WANSERVER_PROGRAM_WAN_SETTINGS_H
#define TWINPORT_WANSERVER_PROGRAM_WAN_SETTINGS_H

#include "core/config/server_settings.h"
#include "core/config/server_table.h"
#include "twinport/wanserver.h"
#include "wanserver/gate/gate_api.h"

#define TP__PATH_MAX 1023

/* The values of the configuration file; each has its entry in a table, in wan_table.c or
 * core/config/server_table.c. */
typedef struct tp__settings {
    tp__server_settings server;
    char key_file[TP__PATH_MAX + 1];
    unsigned auth; /* tp_auth */
    char token_keys[TP__PATH_MAX + 1];
    uint64_t used_tokens;
    uint64_t max_token_life;

    char bans[TP__PATH_MAX + 1];
    uint64_t accept_rate;
    uint64_t accept_burst;
    uint64_t connections_per_address;
    uint64_t max_addresses;

    uint64_t handshake_timeout;
    uint64_t max_pending;
    uint64_t handshake_threads;
    unsigned handshake_priority; /* tp_handshake_priority */
    uint64_t handshake_queue;
    uint64_t busy_time;

    uint64_t max_players;
    uint64_t max_waiting;
    uint64_t place_interval;
    uint64_t message_rate;
    uint64_t message_burst;
    uint64_t byte_rate;
    uint64_t byte_burst;
    unsigned queue_policy; /* tp_queue_policy */

    tp_address bus;
    uint64_t bus_max_frame;
    char service[TP_NAME_MAX + 1];
    uint64_t max_services;
    uint64_t keep_players;
    uint64_t keep_time;
    unsigned lost_close; /* tp_close_reason */
} tp__settings;

/* The values of the command line. */
typedef struct tp__arguments {
    tp__program_options program;
    char genkey[TP__PATH_MAX + 1];
    char show_key[TP__PATH_MAX + 1];
} tp__arguments;

/* The tables of both: the entries that lanserver has too, and wanserver's own. */
const tp__setting_table *tp__settings_table(void);
const tp__setting_table *tp__arguments_table(void);

/* Fills in `settings` from a file; the path "" stands for an empty file, which lacks the settings
 * that have no default. TP_ERR_CONFIG, TP_ERR_NO_FILE, TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each
 * with a report. */
tp_err tp__settings_load(
    const char *path, tp__settings *settings, char *report, size_t report_size);

/* Fills in the server's options, without its keys, and the gate's. They point into `settings`,
 * which must live as long as they are used. */
void tp__settings_apply(
    const tp__settings *settings, tp_wanserver_options *wan, tp__gate_options *gate);

#endif
