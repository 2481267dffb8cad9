/*
 * Ends the process after a fault that makes its memory untrustworthy: a block that is freed twice,
 * a packet that is released without a reference.
 */
#ifndef TWINPORT_CORE_BASE_FATAL_H
#define TWINPORT_CORE_BASE_FATAL_H

#include "os/compiler.h"

/* Writes "twinport: fatal: ..." to standard error and aborts, so that a crash dump shows the stack
 * of the faulty call. A reader of standard error that does not read delays it by one second at
 * most. Any thread; uses no memory of this project's pools. */
TP_NORETURN void tp__fatal(const char *format, ...) TP_PRINTF(1, 2);

#endif
