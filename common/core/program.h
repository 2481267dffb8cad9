/*
 * What the mains of the programs have in common. One thread, at start. Messages go to standard error, with the
 * program's name in front.
 */
#ifndef TWINPORT_CORE_PROGRAM_H
#define TWINPORT_CORE_PROGRAM_H

#include "twinport/error.h"
#include "twinport/process.h"

/* Says what failed, and why. Returns 1, the exit code of one that could not run. */
int tp__program_fail(const char *program, const char *what, tp_err error);

/* Says the lines of a report, each with its newline. */
void tp__program_say_report(const char *report);

/* Raises the limit of open files as far as it goes, and warns if that is too few for `sessions`. */
void tp__program_raise_descriptors(const char *program, unsigned sessions);

/* Takes the process's share of the machine: before other threads start. No processor given: all. What the
 * system refuses is a warning: it costs speed, not service. */
void tp__program_take_share(
    const char *program, tp_priority priority, const tp_processors *processors);

#endif
