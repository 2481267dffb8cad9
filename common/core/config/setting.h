/*
 * Settings: what a program can be told, as a table. The configuration file (config.h), the command
 * line (options.h), their error messages and their help all read the same table, so that none of
 * them can say something else than the others. One thread, at start.
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
    TP__SETTING_NETWORKS,   /* tp__networks: any number of them, also over several lines; none only
                             * where the standard value is none */
    TP__SETTING_PROCESSORS, /* tp_processors; none of them for "all" */
    TP__SETTING_CHOICE,     /* unsigned: which of `choices` */
    TP__SETTING_TEXT        /* char[max + 1] */
} tp__setting_kind;

/* In a list of networks, "private" stands for all of tp_private_networks(), "any" for ::/0. */
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
    const char *standard;       /* the value, as text, if none is given; NULL: one must be given */
    const char *example;        /* where `standard` is NULL: a value to show */
    const char *help;           /* a line or more */
} tp__setting;

#define TP__SETTINGS_MAX 64 /* entries of a table */

/* Puts the standard values into `target`; settings that must be given stay as they are.
 * TP_ERR_INVALID if the table itself is wrong: too long, or a standard value that is not
 * allowed. */
tp_err tp__settings_reset(const tp__setting *table, size_t count, void *target);

/* Reads one value into its field of `target`; networks are added to those already there. TP_OK, or
 * TP_ERR_CONFIG if it is not what is expected; then the field's content is undefined. */
tp_err tp__setting_read(const tp__setting *setting, const char *value, void *target);

/* Empties a list of networks, so that what is read next replaces it; leaves the other kinds
 * alone. */
void tp__setting_clear(const tp__setting *setting, void *target);

/* NULL if there is none of that name. */
const tp__setting *tp__setting_find(const tp__setting *table, size_t count, const char *name);

/* The setting whose name is most like `name`, for a hint; NULL if none is near. */
const tp__setting *tp__setting_nearest(const tp__setting *table, size_t count, const char *name);

/* What it is in `target`, as a file would have it; of a list only that it is one. Returns
 * `text`. */
#define TP__SETTING_VALUE_TEXT 96
const char *tp__setting_print(const tp__setting *setting, const void *target, char *text);

/* "a whole number from 1 to 64". Returns `text`. */
#define TP__EXPECTATION_TEXT 256
const char *tp__setting_expectation(const tp__setting *setting, char *text);

#endif
