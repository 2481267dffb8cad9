/*
 * Settings that contradict each other, for the tests of the two programs' settings: each row has a
 * contradiction, the text that reports it, and the nearest values that are accepted. A
 * contradiction that gives only a warning is looked for in the log.
 */
#ifndef TWINPORT_TESTS_RELATIONS_FIXTURE_H
#define TWINPORT_TESTS_RELATIONS_FIXTURE_H

#include "log_capture.h"

typedef struct relation_row {
    const char *bad;
    const char *wanted; /* names, values and the expectation in the report */
    const char *good;   /* the nearest accepted values */
    bool warns;         /* accepted, with a warning in the log */
} relation_row;

/* A call site logs ten lines a second at most: no more rows than that may warn. */
static tp_err relation_load(const char *lines, tp_err (*load)(const char *lines)) {
    capture_log();
    tp_err error = load(lines);
    end_log();
    return error;
}

static void relation_check(
    const relation_row *row, const char *report, tp_err (*load)(const char *lines)) {
    tp_err error = relation_load(row->bad, load);
    const char *said = row->warns ? captured_log : report;
    bool judged = error == (row->warns ? TP_OK : TP_ERR_CONFIG);
    if (!judged || strstr(said, row->wanted) == NULL) {
        printf("%s\nis not refused with\n    %s\nbut with: %s\n", row->bad, row->wanted, said);
        FAIL("a contradiction is not refused");
    }
    error = relation_load(row->good, load);
    if (error != TP_OK || (row->warns && was_logged(row->wanted))) {
        printf("%s\nis refused: %s%s\n", row->good, report, captured_log);
        FAIL("valid settings are refused");
    }
}

#endif
