/*
 * The end of the process, for faults after which nothing that it does can be trusted: a block freed
 * twice, a packet released by somebody who does not hold it.
 */
#ifndef TWINPORT_CORE_BASE_FATAL_H
#define TWINPORT_CORE_BASE_FATAL_H

#include "os/compiler.h"

/* Says "twinport: fatal: ..." on standard error and aborts, so that a crash dump shows the
 * culprit's stack. A reader of standard error that stands still keeps it for a second at most. Any
 * thread; takes nothing from this project's pools. */
TP_NORETURN void tp__fatal(const char *format, ...) TP_PRINTF(1, 2);

#endif
