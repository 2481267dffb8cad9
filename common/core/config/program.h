/*
 * Functions that the main functions of the programs share. The main thread only.
 */
#ifndef TWINPORT_CORE_CONFIG_PROGRAM_H
#define TWINPORT_CORE_CONFIG_PROGRAM_H

#include <stdbool.h>

#include "os/compiler.h"
#include "twinport/error.h"
#include "twinport/process.h"

/* Prints a line to standard error, with the program's name in front. It is written in one piece,
 * because the log's thread writes to standard error as well. Text beyond TP__PROGRAM_TEXT - 1 bytes
 * is cut. */
#define TP__PROGRAM_TEXT 4096u
void tp__program_print_error(const char *program, const char *format, ...) TP_PRINTF(2, 3);

/* Prints to standard output, in one piece; text beyond TP__PROGRAM_TEXT - 1 bytes is cut. A slow
 * reader of either stream delays the program, but by half a second in its whole life; output that
 * is not accepted by then is lost. */
void tp__program_print(const char *format, ...) TP_PRINTF(1, 2);

/* Prints, at the end, how many lines the log has lost, if any. */
void tp__program_print_log_losses(const char *program);

/* Opens the log file again and logs the result. */
void tp__program_reopen_log(void);

/* Prints what failed and why. Returns 1, the exit code of a program that could not run. */
int tp__program_fail(const char *program, const char *what, tp_err error);

/* The exit code of a program that has printed what was asked for: 0, or 1 if the output could not
 * be written, for example to a full disk; then it prints why. */
int tp__program_finish_output(const char *program);

/* Prints the lines of a report to standard error, with a final newline. */
void tp__program_print_report(const char *report);

/* Prints that a stop begins, because statistics are printed only at its end. */
void tp__program_print_stopping(const char *program);

/* Catches the system's requests to stop and, where the system has such a request, to reload. */
tp_err tp__program_catch_requests(void);

/* True if the log file can be written; an empty path is standard error. If not, prints why. */
bool tp__program_can_log(const char *program, const char *path);

/* Raises the limit of open files as far as possible, and prints a warning if that is not enough for
 * `sessions`, the sessions that are being ended in addition (TP_SERVER_ENDING), and `pending`
 * connections. */
void tp__program_raise_descriptors(const char *program, unsigned sessions, unsigned pending);

/* Sets the priority and the processors of the process (none given: all), before other threads
 * start. If the system refuses, it prints a warning: that costs speed, but no function. */
void tp__program_set_scheduling(
    const char *program, tp_priority priority, const tp_processors *processors);

#endif
