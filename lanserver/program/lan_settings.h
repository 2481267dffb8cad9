/*
 * The settings of the program lanserver: its configuration file and its command line. One thread,
 * at start.
 */
#ifndef TWINPORT_LANSERVER_PROGRAM_LAN_SETTINGS_H
#define TWINPORT_LANSERVER_PROGRAM_LAN_SETTINGS_H

#include <stdio.h>

#include "core/config/server_settings.h"
#include "lanserver/bus/hub.h"

/* The values of the configuration file; each has its entry in a table in lan_settings.c. */
typedef struct tp__settings {
    tp__server_settings server;
    bool allow_public_bind;

    uint64_t max_sessions;
    unsigned queue_policy;

    uint64_t hello_timeout;
    uint64_t unconfirmed_limit;
    uint64_t max_services;
} tp__settings;

/* The values of the command line. */
typedef struct tp__arguments {
    char config[4096];
    bool check_config;
    bool print_config;
    bool version;
    bool help;
} tp__arguments;

/* Reads the command line into `arguments`. TP_ERR_CONFIG, with a report. */
tp_err tp__arguments_read(
    int count, char *const *words, tp__arguments *arguments, char *report, size_t report_size);
void tp__arguments_print_help(FILE *file);

/* Reads the file into `settings`; with an empty path, the defaults. TP_ERR_CONFIG, TP_ERR_NO_FILE,
 * TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__settings_load(
    const char *path, tp__settings *settings, char *report, size_t report_size);
void tp__settings_print_example(FILE *file);

/* Fills the hub's options. They point into `settings`, which must live as long as they are used. */
void tp__settings_apply(const tp__settings *settings, tp__hub_options *options);

#endif
