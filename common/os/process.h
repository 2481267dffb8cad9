/*
 * What the programs and their tests need of their process, beyond the public part.
 */
#ifndef TWINPORT_OS_PROCESS_H
#define TWINPORT_OS_PROCESS_H

#include <stdint.h>

#include "twinport/process.h"

uint64_t tp_process_id(void);

/* Descriptors or handles open now, or -1 if the system does not tell. */
long tp_process_open_descriptors(void);

/* Processor time used so far by the process, user and system together, in nanoseconds. */
uint64_t tp_process_cpu_ns(void);

#endif
