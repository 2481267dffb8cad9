/*
 * The configuration file: lines of `key = value`, described by a table of settings.
 *
 *     # a comment; also after a value and a blank
 *     listen  = 127.0.0.1:4000
 *     allow   = 10.0.0.0/8, 192.168.0.0/16    # a list may continue
 *     allow   = fd00::/8                      # in another line
 *
 * Any other key may be set once. The first line of a list replaces its default value. One thread,
 * at start.
 */
#ifndef TWINPORT_CORE_CONFIG_CONFIG_H
#define TWINPORT_CORE_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdio.h>

#include "core/config/setting.h"

#define TP__CONFIG_MAX_FILE (1024u * 1024u) /* bytes */
#define TP__CONFIG_MAX_LINE 4096u           /* bytes without the newline */
#define TP__CONFIG_REPORT   4096u           /* a buffer size for every report */

/*
 * Sets `target` to the table's default values, then to the values in the text of `size` bytes.
 * `name` is the text's name in messages. TP_OK; TP_ERR_CONFIG, with every error (up to
 * TP__REPORT_ERRORS) as a line `NAME:LINE: error: what is expected` in `report` (`report_size`
 * bytes, 1 or more); or TP_ERR_INVALID if the table is invalid. After an error, `target` must not
 * be used.
 */
tp_err tp__config_parse(const tp__setting *table, size_t count, const char *name, const char *text,
    size_t size, void *target, char *report, size_t report_size);

/* The same for a file. An empty path means no file: the default values stay. Also TP_ERR_NO_FILE,
 * TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__config_load(const tp__setting *table, size_t count, const char *path, void *target,
    char *report, size_t report_size);

/* Writes an example file: every setting with its help, its possible values, their unit and its
 * default value, and each group with a heading. Settings with a default are commented out, so the
 * example sets only those without one. */
void tp__config_print_example(const tp__setting *table, size_t count, FILE *file);

#endif
