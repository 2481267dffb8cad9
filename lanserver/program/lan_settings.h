/*
 * The settings of the program lanserver: its configuration file and its command line. One thread,
 * at start.
 */
#ifndef TWINPORT_LANSERVER_PROGRAM_LAN_SETTINGS_H
#define TWINPORT_LANSERVER_PROGRAM_LAN_SETTINGS_H

#include "core/config/server_settings.h"
#include "lanserver/bus/hub.h"

/* The values of the configuration file; each has its entry in a table, in lan_settings.c or
 * core/config/server_table.c. */
typedef struct tp__settings {
    tp__server_settings server;
    bool allow_public_bind;

    uint64_t max_sessions;
    unsigned queue_policy;

    uint64_t hello_timeout;
    uint64_t unconfirmed_limit;
    uint64_t max_services;
} tp__settings;

/* The tables of the settings and of the options of the command line, which are those that both
 * programs have. */
const tp__setting_table *tp__settings_table(void);
const tp__setting_table *tp__arguments_table(void);

/* Reads the file into `settings`; with an empty path, the defaults. TP_ERR_CONFIG, TP_ERR_NO_FILE,
 * TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__settings_load(
    const char *path, tp__settings *settings, char *report, size_t report_size);

/* Fills the hub's options. They point into `settings`, which must live as long as they are used. */
void tp__settings_apply(const tp__settings *settings, tp__hub_options *options);

#endif
