/*
 * Conditions between settings. Two values can each be in range and still contradict each other:
 * then the program does not start, and --check-config reports an error. A message names both
 * settings, their values and what is expected:
 *
 *     gate.conf: max_frame is 2m and queue_bytes is 1m: expected max_frame plus 4 bytes of header
 *     to fit into queue_bytes
 *
 * One thread, at start; no state.
 */
#ifndef TWINPORT_CORE_CONFIG_RELATIONS_H
#define TWINPORT_CORE_CONFIG_RELATIONS_H

#include <stdbool.h>

#include "core/config/config_report.h"
#include "core/config/setting.h"

typedef struct tp__relations {
    const tp__setting *table;
    size_t count;
    const void *target; /* the struct that the table has filled */
    const char *path;   /* the file, for messages */
    tp__report *wrong;  /* receives the errors */
} tp__relations;

/* Reports an error unless the condition `holds`. `one` and `other` are names in the table; `other`
 * may be NULL. The format is the text after "expected". */
TP_PRINTF(5, 6)
void tp__relation_must(const tp__relations *all, bool holds, const char *one, const char *other,
    const char *format, ...);

/* The same for a combination that may be intended: a warning in the log. */
TP_PRINTF(5, 6)
void tp__relation_should(const tp__relations *all, bool holds, const char *one, const char *other,
    const char *format, ...);

#endif
