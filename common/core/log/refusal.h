/*
 * Log lines about refused connections: one line each, with the remote address and the reason.
 *
 * Each reason has a call site of its own, so a rate limit of its own: a flood of one reason hides
 * no other, and the number of suppressed lines is logged for each.
 */
#ifndef TWINPORT_CORE_LOG_REFUSAL_H
#define TWINPORT_CORE_LOG_REFUSAL_H

#include "twinport/address.h"
#include "twinport/log.h"

/* Logs "`by`: refused `remote`: `reason`" at `level`. `site` belongs to that reason alone. Any
 * thread. */
void tp__log_refusal(tp_log_site *site, tp_log_level level, const char *by,
    const tp_address *remote, const char *reason);

/* The same for a reason that is constant at this place of the source. */
#define TP__REFUSED(level, by, remote, reason)                                                     \
    do {                                                                                           \
        static tp_log_site tp__refusal_site;                                                       \
        tp__log_refusal(&tp__refusal_site, (level), (by), (remote), (reason));                     \
    } while (0)

#endif
