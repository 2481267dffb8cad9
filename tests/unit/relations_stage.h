/*
 * Rows of settings that do not fit each other, for the two programs' settings: each with what is
 * said of it, and the same with a value that fits just so. What is only warned of is looked for in
 * the log.
 */
#ifndef TWINPORT_TESTS_RELATIONS_STAGE_H
#define TWINPORT_TESTS_RELATIONS_STAGE_H

#include "log_capture.h"

typedef struct relation_row {
    const char *bad;
    const char *wanted; /* names, values and what is expected */
    const char *good;   /* the nearest that fits */
    bool warns;         /* ... and is taken all the same */
} relation_row;

/* Mind that one place in the code may say ten lines a second: more rows than that must not warn. */
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
        printf("%s\nis not refused with\n    %s\nbut: %s\n", row->bad, row->wanted, said);
        FAIL("a relation is not checked");
    }
    error = relation_load(row->good, load);
    if (error != TP_OK || (row->warns && was_said(row->wanted))) {
        printf("%s\nis not taken: %s%s\n", row->good, report, captured_log);
        FAIL("what fits is not taken");
    }
}

#endif
