/*
 * Tables made of groups. What both programs have stands once, in shared groups; a program's table
 * is a list of groups, each with the shared settings of its title and then the program's own:
 *
 *     shared:   Network  listen, backlog      Log  log_level
 *     own:      Network  max_players          Log  -
 *     changes:  backlog: default 64
 *     table:    Network  listen, backlog (64), max_players;  Log  log_level
 *
 * One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_SETTING_TABLE_H
#define TWINPORT_CORE_CONFIG_SETTING_TABLE_H

#include "core/config/setting.h"

typedef struct tp__setting_group {
    const char *title; /* NULL in the last element of a list */
    const tp__setting *settings;
    size_t count;
} tp__setting_group;

/* What is different in one program. A member that is NULL or 0 changes nothing. */
typedef struct tp__setting_change {
    const char *name; /* of a shared setting; NULL in the last element of a list */
    const char *default_value;
    uint64_t min;
    const char *help;
} tp__setting_change;

typedef struct tp__setting_table {
    tp__setting entries[TP__SETTINGS_MAX];
    size_t count;
} tp__setting_table;

/* Makes a program's table. The list `own` has every shared group. `shared` and `changes` may be
 * NULL: none. */
void tp__setting_table_make(tp__setting_table *table, const tp__setting_group *own,
    const tp__setting_group *shared, const tp__setting_change *changes);

/* Each name stands once and has a help and a group, and each required setting has an example. */
const char *tp__setting_table_check(const tp__setting_table *table);

#endif
