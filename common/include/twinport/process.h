/*
 * What a server program asks of its process: to be told to stop, and descriptors enough.
 */
#ifndef TWINPORT_PROCESS_H
#define TWINPORT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Asks the system to tell the process to stop gently: SIGTERM and SIGINT on Linux; Ctrl-C, console
 * close and system shutdown on Windows. Once per process, before other threads start.
 */
tp_err tp_process_catch_stop(void);
/* Waits for that request, at most timeout_ms (-1: for ever). True once it has come. */
bool tp_process_wait_stop(int timeout_ms);
/* Makes tp_process_wait_stop() return true, as if the request had come. Any thread. */
void tp_process_request_stop(void);

/* Raises the limit of open descriptors as far as the system lets it; returns the limit in force
 * (UINT64_MAX where there is none). */
uint64_t tp_process_raise_descriptor_limit(void);

#ifdef __cplusplus
}
#endif
#endif
