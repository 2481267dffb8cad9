/*
 * Settings of a program, as a table. The configuration file (config.h), the command line
 * (options.h), their error messages and their help all use the same table, so that they cannot
 * contradict each other. One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_SETTING_H
#define TWINPORT_CORE_CONFIG_SETTING_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"
#include "twinport/process.h"

typedef enum tp__setting_kind {
    TP__SETTING_BOOL,    /* bool: yes or no */
    TP__SETTING_COUNT,   /* uint64_t: a whole number */
    TP__SETTING_BYTES,   /* uint64_t: bytes; suffixes k, m, g (1,024 to the first, second, third) */
    TP__SETTING_TIME,    /* uint64_t: milliseconds; written with ms, s, min or h */
    TP__SETTING_ADDRESS, /* tp_address: with its port, which may be 0 */
    TP__SETTING_NETWORKS,   /* tp__networks: a list, which may continue in further lines; it may be
                             * empty only if the default value is */
    TP__SETTING_PROCESSORS, /* tp_processors; an empty set for "all" */
    TP__SETTING_CHOICE,     /* unsigned: index in `choices` */
    TP__SETTING_TEXT        /* char[max + 1] */
} tp__setting_kind;

/* In a list of networks, "private" means all of tp_private_networks(), "any" means ::/0. */
typedef struct tp__networks {
    size_t count;
    tp_network networks[TP_ACCESS_MAX_NETWORKS];
} tp__networks;

typedef struct tp__setting {
    const char *name;
    tp__setting_kind kind;
    size_t offset;              /* of its field in the target struct */
    uint64_t min;               /* COUNT, BYTES, TIME: the range; */
    uint64_t max;               /* TEXT: its length in bytes */
    const char *const *choices; /* CHOICE: the words, NULL at the end */
    const char *default_value;  /* as text; NULL: the setting is required */
    const char *example;        /* of a required setting: a value for the example file */
    const char *unit;           /* what is counted, in the plural; NULL: it is a plain number */
    const char *metavariable;   /* the name of the value in the help of options: FILE, SECONDS, HEX;
                                 * NULL: that of the kind, for example N */
    const char *help;           /* one or more lines */
    const char *group; /* heading in help and example file; set by tp__setting_table_make() */
} tp__setting;

#define TP__SETTINGS_MAX 64 /* entries of a table */

/* Sets `target` to the default values; required settings are not changed. TP_ERR_INVALID if the
 * table is invalid: too long, or a default value that is not allowed. */
tp_err tp__settings_reset(const tp__setting *table, size_t count, void *target);

/* Reads one value into its field of `target`; networks are added to those already in the list.
 * TP_OK, or TP_ERR_CONFIG if the value is not as expected; then the field's value is undefined. */
tp_err tp__setting_read(const tp__setting *setting, const char *value, void *target);

/* Empties a list of networks, so that the next value replaces it; does nothing for other kinds. */
void tp__setting_clear(const tp__setting *setting, void *target);

/* The setting of that name, or NULL. */
const tp__setting *tp__setting_find(const tp__setting *table, size_t count, const char *name);

/* The setting whose name is most similar to `name`, for a suggestion; NULL if none is similar. */
const tp__setting *tp__setting_nearest(const tp__setting *table, size_t count, const char *name);

/* Prints the value in `target` as a file would have it; for a list only that it is one. Returns
 * `text` (TP__SETTING_VALUE_TEXT bytes). */
#define TP__SETTING_VALUE_TEXT 96
const char *tp__setting_print(const tp__setting *setting, const void *target, char *text);

/* Describes the possible values: "a whole number from 1 to 64". Returns `text`
 * (TP__EXPECTATION_TEXT bytes). */
#define TP__EXPECTATION_TEXT 256
const char *tp__setting_expectation(const tp__setting *setting, char *text);

#endif
