/*
 * What the mains of the programs have in common. One thread, at start. Messages go to standard
 * error, with the program's name in front.
 */
#ifndef TWINPORT_CORE_CONFIG_PROGRAM_H
#define TWINPORT_CORE_CONFIG_PROGRAM_H

#include <stdbool.h>

#include "os/compiler.h"
#include "twinport/error.h"
#include "twinport/process.h"

/* Says a line in one piece, since the log's own thread writes to standard error as well. Text
 * beyond TP__PROGRAM_TEXT - 1 bytes is cut. */
#define TP__PROGRAM_TEXT 4096u
void tp__program_say(const char *program, const char *format, ...) TP_PRINTF(2, 3);

/* Prints to standard output, in one piece; text beyond TP__PROGRAM_TEXT - 1 bytes is cut. As with
 * tp__program_say(), a reader that stands still or is slow holds it up, but by half a second in the
 * program's whole life; what is not taken by then is lost. */
void tp__program_print(const char *format, ...) TP_PRINTF(1, 2);

/* At the end, if there were any: how many lines the log has lost. */
void tp__program_say_log_losses(const char *program);

/* Opens the log's file again, and says in the log how that went. */
void tp__program_reopen_log(void);

/* Says what failed, and why. Returns 1, the exit code of one that could not run. */
int tp__program_fail(const char *program, const char *what, tp_err error);

/* The exit code of one that has printed what it was asked for: 0, or, having said why, 1 if that
 * did not get out, as when the disk is full. */
int tp__program_finish_output(const char *program);

/* Says the lines of a report, each with its newline. */
void tp__program_say_report(const char *report);

/* Prints that a stop begins: there is an output until then, and an account only at the end. */
void tp__program_print_stopping(const char *program);

/* Has the system tell the process to stop, and where there is such a thing, to reread its files. */
tp_err tp__program_catch_requests(void);

/* Whether the log's file can be written; an empty path is standard error. Says why not. */
bool tp__program_can_log(const char *program, const char *path);

/* Raises the limit of open files as far as it goes, and warns if that is too few for `sessions`,
 * those that are being ended beside them (TP_SERVER_ENDING), and `pending` connections. */
void tp__program_raise_descriptors(const char *program, unsigned sessions, unsigned pending);

/* Takes the process's share of the machine: before other threads start. No processor given: all.
 * What the system refuses is a warning: it costs speed, not service. */
void tp__program_take_share(
    const char *program, tp_priority priority, const tp_processors *processors);

#endif
