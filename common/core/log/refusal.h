/*
 * What the log says of a peer that is turned away: one line, with the reason and the address.
 *
 * A reason has a place of its own in the log, so a rate limit of its own: a flood of one of them
 * hides none of the others, and how many lines were held back is said for each.
 */
#ifndef TWINPORT_CORE_LOG_REFUSAL_H
#define TWINPORT_CORE_LOG_REFUSAL_H

#include "twinport/address.h"
#include "twinport/log.h"

/* "`by`: refused `peer`: `reason`", at `level`. `place` is the reason's own. Any thread. */
void tp__refusal_say(tp_log_place *place, tp_log_level level, const char *by,
    const tp_address *peer, const char *reason);

/* The same where the reason is known as the code is written. */
#define TP__REFUSED(level, by, peer, reason)                                                       \
    do {                                                                                           \
        static tp_log_place tp__refusal_place;                                                     \
        tp__refusal_say(&tp__refusal_place, (level), (by), (peer), (reason));                      \
    } while (0)

#endif
