/*
 * The configuration file: lines of `key = value`, read by a table of settings.
 *
 *     # a comment; also behind a value, after a blank
 *     listen  = 127.0.0.1:4000
 *     allow   = 10.0.0.0/8, 192.168.0.0/16    # lists may also go on
 *     allow   = fd00::/8                      # in a line of their own
 *
 * Any other key may be given once. The first line of a list replaces its standard value. One
 * thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_CONFIG_H
#define TWINPORT_CORE_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdio.h>

#include "core/config/setting.h"

#define TP__CONFIG_MAX_FILE (1024u * 1024u) /* bytes */
#define TP__CONFIG_MAX_LINE 4096u           /* bytes without the newline */
#define TP__CONFIG_REPORT   4096u           /* room enough for every report */

/*
 * Sets `target` to the table's standard values, then to what the text of `size` bytes says. `name`
 * is the text's name in messages. TP_OK; TP_ERR_CONFIG, with every error (up to TP__REPORT_ERRORS)
 * as a line `NAME:LINE: what is wrong: what is expected` in `report` (`room` bytes, 1 or more); or
 * TP_ERR_INVALID if the table is wrong. On an error, `target` is not to be used.
 */
tp_err tp__config_parse(const tp__setting *table, size_t count, const char *name, const char *text,
    size_t size, void *target, char *report, size_t room);

/* The same for a file; an empty path names none, and the standard values stay. Also TP_ERR_NO_FILE,
 * TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__config_load(const tp__setting *table, size_t count, const char *path, void *target,
    char *report, size_t room);

/* Writes an example file: every setting with its help, what it takes and its standard value.
 * Settings that have one are commented out, so the example means the same as an empty file. */
void tp__config_print_example(const tp__setting *table, size_t count, FILE *file);

#endif
