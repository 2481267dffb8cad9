/*
 * NTSTATUS codes, which only completions carry.
 */
#ifndef TWINPORT_OS_WIN32_NT_ERROR_H
#define TWINPORT_OS_WIN32_NT_ERROR_H

#include <stdint.h>

/* The Winsock or Win32 code for an NTSTATUS; 0 if it is not an error. */
int tp__nt_error(uint32_t status);

#endif
