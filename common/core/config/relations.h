/*
 * What one setting asks of another. Each range can be right and the two of them together wrong:
 * then the program does not start, and --check-config does not call it good. A message names both
 * settings, their values and what is expected of them:
 *
 *     gate.conf: max_frame is 2m and queue_bytes is 1m: expected max_frame, and 4 bytes of header,
 *     to fit into queue_bytes
 *
 * One thread, at start; nothing is kept.
 */
#ifndef TWINPORT_CORE_CONFIG_RELATIONS_H
#define TWINPORT_CORE_CONFIG_RELATIONS_H

#include <stdbool.h>

#include "core/config/config_report.h"
#include "core/config/setting.h"

typedef struct tp__relations {
    const tp__setting *table;
    size_t count;
    const void *target; /* what the table has filled */
    const char *path;   /* the file, for messages */
    tp__report *wrong;
} tp__relations;

/* An error in the report unless it `holds`. `one` and `other` are names in the table; `other` may
 * be NULL. The format says what is expected. */
TP_PRINTF(5, 6)
void tp__relation_must(const tp__relations *all, bool holds, const char *one, const char *other,
    const char *format, ...);

/* The same for what can be meant: it is a warning in the log. */
TP_PRINTF(5, 6)
void tp__relation_should(const tp__relations *all, bool holds, const char *one, const char *other,
    const char *format, ...);

#endif
