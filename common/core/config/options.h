/*
 * The command line: `--name VALUE`, `--name=VALUE`, and `--name` alone for a bool, described by a
 * table of settings. For the programs only. One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_OPTIONS_H
#define TWINPORT_CORE_CONFIG_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "core/config/setting.h"

/*
 * Sets `target` to the table's default values, then to the values in arguments[0..argument_count-1]
 * (the program's name is not among them). Stops at "--help" or "--version", if the table has them,
 * and then ignores errors before it. TP_OK; TP_ERR_CONFIG, with every error (up to
 * TP__REPORT_ERRORS) as a line in `report` (`report_size` bytes, 1 or more); or TP_ERR_INVALID if
 * the table is invalid. After an error, `target` must not be used.
 */
tp_err tp__options_read(const tp__setting *table, size_t count, int argument_count,
    char *const *arguments, void *target, char *report, size_t report_size);

/*
 * Writes the help of each option, and each group with a heading:
 *
 *     Keys:
 *       --genkey FILE         Write a new private key to this file.
 */
void tp__options_print_help(const tp__setting *table, size_t count, FILE *file);

#endif
