/*
 * What the program lanserver can be told: in its configuration file, and on its command line.
 */
#ifndef TWINPORT_LANSERVER_SETTINGS_H
#define TWINPORT_LANSERVER_SETTINGS_H

#include <stdio.h>

#include "core/setting.h"
#include "lanserver/bus/hub.h"
#include "twinport/log.h"

/* The configuration file, read; filled by the table. */
typedef struct tp__settings {
    tp_address listen;
    bool allow_public_bind;
    tp__networks allow;
    tp__networks deny;
    uint64_t backlog;

    unsigned io;
    uint64_t workers;
    uint64_t running;
    bool nagle;
    bool send_buffer_zero;
    bool post_receive_buffers;
    uint64_t receive_buffer;
    uint64_t reserve;

    uint64_t max_sessions;
    uint64_t max_frame;
    uint64_t queue_bytes;
    uint64_t queue_packets;
    unsigned queue_policy;
    uint64_t idle_timeout;
    uint64_t ping_interval;
    uint64_t drain_timeout;

    uint64_t hello_timeout;
    uint64_t unconfirmed_limit;
    uint64_t max_services;

    unsigned priority; /* tp_priority */
    tp_processors processors;

    unsigned log_level;
    char log_file[256];
} tp__settings;

/* The command line, read. */
typedef struct tp__arguments {
    char config[4096];
    bool check_config;
    bool print_config;
    bool version;
    bool help;
} tp__arguments;

/* Fills `arguments`; TP_ERR_CONFIG, with a report that ends in a newline. */
tp_err tp__arguments_read(
    int count, char *const *words, tp__arguments *arguments, char *report, size_t room);
void tp__arguments_print_help(FILE *file);

/* Fills `settings` from the file (its name "" : from nothing, so the standard values).
 * TP_ERR_CONFIG, TP_ERR_NO_FILE, TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__settings_load(const char *path, tp__settings *settings, char *report, size_t room);
void tp__settings_print_example(FILE *file);

/* The hub's options; they point into `settings`, which must live as long as they are used. */
void tp__settings_apply(const tp__settings *settings, tp__hub_options *options);
/* The log's, likewise. */
tp_log_options tp__settings_log(const tp__settings *settings);

#endif
