/*
 * Tokens that have been used: a token opens one session, once, however many copies of it there are.
 *
 * An id is kept at least until its token is refused without it, because it has expired, and longer
 * while there is room. No token is taken that would live longer than `life`, so none keeps its
 * place for longer, whatever its expiry says. The wall clock may be set meanwhile, either way: new
 * tokens are judged by its new time, and used ones stay used (but for what replay.c says).
 *
 * All memory is allocated at create. Any thread: a mutex inside, so that of two workers with the
 * same token exactly one is told that it is fresh. It is taken once per HELLO whose token was
 * opened, never for a message.
 */
#ifndef TWINPORT_WANSERVER_GUARD_REPLAY_H
#define TWINPORT_WANSERVER_GUARD_REPLAY_H

#include <stdint.h>

#include "proto/token.h"
#include "twinport/error.h"

typedef struct tp__replay tp__replay;

typedef enum tp__freshness {
    TP__FRESH,      /* never used before; it is now */
    TP__SEEN,       /* used before, or nobody can tell; or it has expired */
    TP__LONG_LIVED, /* it would live longer than `life`; not used up */
    TP__REPLAY_FULL /* as many as can be remembered are alive */
} tp__freshness;

/* `tokens`: how many are remembered, 1 or more. `life`: the longest from now to a token's expiry,
 * in seconds, 1 or more. TP_ERR_INVALID, TP_ERR_NO_MEMORY. */
tp_err tp__replay_create(unsigned tokens, unsigned life, tp__replay **replay);
/* No thread may use it any more. NULL is ignored. */
void tp__replay_destroy(tp__replay *replay);

/* Uses the token with this id. `expiry` and `now` in the token's unit, seconds since 1970; `steady`
 * is now on a clock that nobody sets, in seconds. */
tp__freshness tp__replay_take(tp__replay *replay, const uint8_t id[TP_TOKEN_ID_SIZE],
    uint64_t expiry, uint64_t now, uint64_t steady);

/* Tokens remembered now. */
unsigned tp__replay_count(tp__replay *replay);

#endif
