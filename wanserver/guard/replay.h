/*
 * Tokens that have been used: a token opens one session once, however many copies of it exist.
 *
 * The id of a used token is kept at least until the token would be refused without it, because it
 * has expired, and longer while there is capacity. No token is accepted that would live longer than
 * `life`, so no entry is needed for longer than that, whatever the expiry in the token. The wall
 * clock may be set forward or back meanwhile: new tokens are judged by its new time, and used ones
 * stay used (apart from the exception in replay.c).
 *
 * All memory is allocated at create. Any thread: the mutex inside ensures that of two workers with
 * the same token exactly one gets TP__FRESH. It is taken once per HELLO whose token was opened,
 * never for a message.
 */
#ifndef TWINPORT_WANSERVER_GUARD_REPLAY_H
#define TWINPORT_WANSERVER_GUARD_REPLAY_H

#include <stdint.h>

#include "proto/token.h"
#include "twinport/error.h"

typedef struct tp__replay tp__replay;

typedef enum tp__freshness {
    TP__FRESH,      /* was never used before; it is used now */
    TP__SEEN,       /* was used before, or may have been; or it has expired */
    TP__LONG_LIVED, /* would live longer than `life`; it is not marked as used */
    TP__REPLAY_FULL /* the capacity is reached with tokens that have not expired */
} tp__freshness;

/* `tokens`: the capacity, 1 or more. `life`: the longest time from now to a token's expiry, in
 * seconds, 1 or more. TP_ERR_INVALID, TP_ERR_NO_MEMORY. */
tp_err tp__replay_create(unsigned tokens, unsigned life, tp__replay **replay);
/* No thread may use it any more. NULL is ignored. */
void tp__replay_destroy(tp__replay *replay);

/* Marks the token with this id as used. `expiry` and `now` are in seconds since 1970, as in the
 * token; `steady` is the time now by a clock that is never set, in seconds. */
tp__freshness tp__replay_take(tp__replay *replay, const uint8_t id[TP_TOKEN_ID_SIZE],
    uint64_t expiry, uint64_t now, uint64_t steady);

/* The number of tokens in the table. */
unsigned tp__replay_count(tp__replay *replay);

/* NULL, or the text of an invariant that does not hold (core/base/invariant.h). Walks over the
 * whole table; under the mutex inside, or when no thread uses it any more. */
const char *tp__replay_check(tp__replay *replay);

#endif
