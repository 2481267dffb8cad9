/*
 * The settings of a server that both programs share: the fields, their conditions, and the options
 * that they become. Each program has this struct in its own settings and the entries in its own
 * table, with its own default values and help. One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_SERVER_SETTINGS_H
#define TWINPORT_CORE_CONFIG_SERVER_SETTINGS_H

#include "core/config/relations.h"
#include "core/config/setting.h"
#include "twinport/log.h"
#include "twinport/server.h"

#define TP__LOG_FILE_MAX 255

typedef struct tp__server_settings {
    tp_address listen;
    tp__networks allow;
    tp__networks deny;
    uint64_t backlog;

    unsigned io; /* index in tp__io_names */
    uint64_t workers;
    uint64_t running;
    bool nagle;
    bool send_buffer_zero;
    bool post_receive_buffers;
    uint64_t receive_buffer;
    uint64_t reserve;
    uint64_t memory_limit;
    uint64_t reserve_descriptors;

    uint64_t max_frame;
    uint64_t queue_bytes;
    uint64_t queue_packets;
    uint64_t idle_timeout;
    uint64_t ping_interval;
    uint64_t drain_timeout;

    unsigned priority; /* tp_priority */
    tp_processors processors;

    unsigned log_level; /* tp_log_level */
    char log_file[TP__LOG_FILE_MAX + 1];
} tp__server_settings;

/* The words of the choices, NULL at the end. */
extern const char *const tp__io_names[];
extern const char *const tp__priority_names[];
extern const char *const tp__log_level_names[];

/* Checks the conditions between these settings, and those of this system. The settings are part of
 * the struct of `all` and have the same names in the tables of both programs. */
void tp__server_settings_check(const tp__relations *all, const tp__server_settings *settings);

/* Checks that the log file is not the file `path`, the value of the setting `other` (NULL: of no
 * setting). */
void tp__server_settings_check_log(const tp__relations *all, const tp__server_settings *settings,
    const char *other, const char *path);

/* True if the server's threads ask for low latency: at priority normal and high. */
bool tp__server_settings_low_latency(const tp__server_settings *settings);

/* Fill the options of the server and of the log. They point into `settings`, which must live as
 * long as they are used. */
void tp__server_settings_apply(const tp__server_settings *settings, tp_server_options *options);
tp_log_options tp__server_settings_log(const tp__server_settings *settings);

#endif
