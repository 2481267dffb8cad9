/*
 * The settings and options that both programs have, each once: the groups that the tables of the
 * programs share (setting_table.h). One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_SERVER_TABLE_H
#define TWINPORT_CORE_CONFIG_SERVER_TABLE_H

#include "core/config/setting_table.h"

/* The titles of the shared groups of settings. */
#define TP__GROUP_NETWORK  "Network"
#define TP__GROUP_ACCESS   "Access"
#define TP__GROUP_MESSAGES "Messages and queues"
#define TP__GROUP_MEMORY   "Memory"
#define TP__GROUP_TIMES    "Time limits"
#define TP__GROUP_THREADS  "Threads and input/output"
#define TP__GROUP_PRIORITY "Priority and processors"
#define TP__GROUP_LOG      "Log"

/* The groups of a tp__server_settings, which is the first member of the program's settings. */
extern const tp__setting_group tp__server_groups[];

/* The title of the group of options for configuration files, and of the one about the program. */
#define TP__GROUP_CONFIGURATION "Configuration"
#define TP__GROUP_PROGRAM       "About the program"

/* The options that each server program has: a group of tp__program_options, which is the first
 * member of the program's options. */
#define TP__PROGRAM_PATH_MAX 4095
typedef struct tp__program_options {
    char config[TP__PROGRAM_PATH_MAX + 1];
    bool check_config;
    bool print_config;
    bool version;
    bool help;
} tp__program_options;

extern const tp__setting_group tp__program_groups[];

#endif
