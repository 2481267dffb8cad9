/*
 * The life of a server program, which both programs share: its command line, its configuration, its
 * run from the log's opening to the statistics, and its exit codes:
 *
 *     0  stopped as requested, or printed what was asked for
 *     1  cannot run
 *     2  invalid arguments or configuration
 *     3  a second request to stop
 *
 * The main thread only.
 */
#ifndef TWINPORT_CORE_CONFIG_PROGRAM_RUN_H
#define TWINPORT_CORE_CONFIG_PROGRAM_RUN_H

#include "core/config/server_settings.h"
#include "core/config/server_table.h"

/* What a program has of its own. Each function gets the program's state, `it`. */
typedef struct tp__program {
    const char *name;
    const char *usage; /* the first lines of the help */
    const tp__setting_table *(*options)(void);
    const tp__setting_table *(*settings)(void);

    tp_err (*create)(void *it);    /* from its settings; starts nothing */
    tp_err (*start)(void *it);     /* and prints where it listens */
    void (*reload)(void *it);      /* after the log file has been opened again */
    void (*tick)(void *it);        /* every tick_ms, roughly */
    int tick_ms;                   /* -1: tick() may be called at any time, or never */
    tp_err (*stop)(void *it);      /* and waits for the end */
    void (*print_stats)(void *it); /* after stop() */
    void (*destroy)(void *it);     /* also after create() has failed */
} tp__program;

/* Reads the command line into `options`, a struct whose first member is a tp__program_options, and
 * does what --help, --version or --print-config ask for. Returns the exit code, or
 * TP__PROGRAM_CONTINUE if there is more to do. */
#define TP__PROGRAM_CONTINUE (-1)
int tp__program_begin(const tp__program *program, int count, char *const *words, void *options);

/* For --check-config. Relations between settings were checked when they were read; the rest is
 * checked here, by create() and by opening the log file. Returns the exit code. */
int tp__program_check(
    const tp__program *program, const tp__server_settings *settings, const char *path, void *it);

/* Runs the program until it is asked to stop, for at most so many sessions and pending connections.
 * Returns the exit code. */
int tp__program_run(const tp__program *program, const tp__server_settings *settings,
    unsigned sessions, unsigned pending, void *it);

/* Prints "NAME: listening on ADDRESS (io IO, workers N)". `workers` 0: one per processor. */
void tp__program_print_listening(
    const char *name, const tp_address *address, const char *io, unsigned workers);

#endif
