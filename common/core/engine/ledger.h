/*
 * The ledger: how the last TP_LEDGER_ENTRIES sessions of a server ended.
 */
#ifndef TWINPORT_CORE_ENGINE_LEDGER_H
#define TWINPORT_CORE_ENGINE_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/session.h"

typedef struct tp__ledger tp__ledger;

/* NULL if there is no memory. The caller's until tp__ledger_destroy() (NULL is allowed there), at
 * which time no thread may use it. */
tp__ledger *tp__ledger_create(void);
void tp__ledger_destroy(tp__ledger *ledger);

/* Writes down one end, in place of the oldest. `end` is copied. Any thread, lock-free. */
void tp__ledger_record(tp__ledger *ledger, const tp_session_end *end);

/* Copies the last ends, newest first, at most `room`, each with its `size` set; returns how many.
 * Ends that are being written meanwhile are left out. Any thread, lock-free. */
size_t tp__ledger_read(const tp__ledger *ledger, tp_session_end *ends, size_t room);

/* Ends recorded since the ledger was made. Any thread. */
uint64_t tp__ledger_count(const tp__ledger *ledger);

#endif
