/*
 * The ledger: how the last TP_LEDGER_ENTRIES sessions of a server ended.
 */
#ifndef TWINPORT_CORE_ENGINE_LEDGER_H
#define TWINPORT_CORE_ENGINE_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/session.h"

typedef struct tp__ledger tp__ledger;

/* NULL if memory is out. The caller owns it until tp__ledger_destroy(), which accepts NULL; no
 * thread may use the ledger at that time. */
tp__ledger *tp__ledger_create(void);
void tp__ledger_destroy(tp__ledger *ledger);

/* Records one end, replacing the oldest. `end` is copied. Any thread, lock-free. */
void tp__ledger_record(tp__ledger *ledger, const tp_session_end *end);

/* Copies the last ends, newest first, at most `capacity`, each with its `size` set; returns how
 * many. Entries that are being written at the moment are left out. Any thread, lock-free. */
size_t tp__ledger_read(const tp__ledger *ledger, tp_session_end *ends, size_t capacity);

/* Ends recorded since the ledger was created. Any thread. */
uint64_t tp__ledger_count(const tp__ledger *ledger);

#endif
