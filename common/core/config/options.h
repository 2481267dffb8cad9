/*
 * The command line: `--name VALUE`, `--name=VALUE`, and `--name` alone for a bool, read by a table
 * of settings. For the programs only. One thread, at start.
 */
#ifndef TWINPORT_CORE_CONFIG_OPTIONS_H
#define TWINPORT_CORE_CONFIG_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "core/config/setting.h"

/*
 * Sets `target` to the table's standard values, then to what arguments[0..argument_count-1] say
 * (the program's name is not among them). Stops at "--help" or "--version", if the table has them:
 * those need nothing else to be right. TP_OK; TP_ERR_CONFIG, with every error as a line in `report`
 * (`room` bytes, 1 or more); or TP_ERR_INVALID if the table is wrong. On an error, `target` is not
 * to be used.
 */
tp_err tp__options_read(const tp__setting *table, size_t count, int argument_count,
    char *const *arguments, void *target, char *report, size_t room);

/* Writes one line or more for each option: its name, its value, its help. */
void tp__options_print_help(const tp__setting *table, size_t count, FILE *file);

#endif
