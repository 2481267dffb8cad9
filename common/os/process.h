/*
 * What the programs and their tests need of their process, beyond the public twinport/process.h.
 */
#ifndef TWINPORT_OS_PROCESS_H
#define TWINPORT_OS_PROCESS_H

#include <stdint.h>

#include "twinport/process.h"

uint64_t tp_process_id(void);

/*
 * Called first by a program, before it starts threads; never called by a library. Opens standard
 * streams that are closed, so that no socket or file gets their numbers; a write to such a stream
 * fails. Ignores the signals that would end the program without need: SIGPIPE and SIGXFSZ (the
 * write fails, too), and SIGUSR1 and SIGUSR2 (which have no meaning here). Windows has neither, and
 * does nothing.
 */
void tp_process_guard(void);

/* How many descriptors or handles are open, or -1 if the system does not provide it. */
long tp_process_open_descriptors(void);

/* The processor time that the process has used, user and system together, in nanoseconds. */
uint64_t tp_process_cpu_ns(void);

#endif
