/*
 * What the programs and their tests need of their process, beyond the public part.
 */
#ifndef TWINPORT_OS_PROCESS_H
#define TWINPORT_OS_PROCESS_H

#include <stdint.h>

#include "twinport/process.h"

uint64_t tp_process_id(void);

/*
 * What a program does first of all; a library never does it. Standard streams that are closed are
 * opened, so that no socket or file gets their numbers; what is written to them is lost, and says
 * so. Signals that end a program for nothing of its own are ignored: SIGPIPE, SIGXFSZ (a write that
 * fails says so itself), SIGUSR1 and SIGUSR2 (which mean nothing here). Before other threads start.
 * Windows has neither.
 */
void tp_process_guard(void);

/* Descriptors or handles open now, or -1 if the system does not tell. */
long tp_process_open_descriptors(void);

/* Processor time used so far by the process, user and system together, in nanoseconds. */
uint64_t tp_process_cpu_ns(void);

#endif
