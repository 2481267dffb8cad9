/*
 * The settings of a server that both programs share: the fields, their conditions, and the options
 * that they become. Each program's settings begin with this struct; server_table.h has the entries.
 * One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_SERVER_SETTINGS_H
#define TWINPORT_CORE_CONFIG_SERVER_SETTINGS_H

#include "core/config/relations.h"
#include "core/config/setting_table.h"
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

/*
 * Loads a program's settings from a file, and checks the conditions between them. With an empty
 * path it loads the default values; settings without one are then missing. `settings` (`size`
 * bytes) begins with a tp__server_settings. `check` is the program's part: it checks the conditions
 * that only this program has. TP_ERR_CONFIG, TP_ERR_NO_FILE, TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY,
 * each with a report.
 */
tp_err tp__server_settings_load(const tp__setting_table *table,
    void (*check)(const tp__relations *all), const char *path, void *settings, size_t size,
    char *report, size_t report_size);

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
