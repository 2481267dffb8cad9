/*
 * Tokens that have been used: a token opens one session, once, however many copies of it there are.
 *
 * Ids are kept until their token expires; then the token itself is refused and the id makes room. All
 * memory is allocated at create. Any thread: a mutex inside, so that of two workers with the same token
 * exactly one is told that it is fresh. It is taken once per HELLO whose token was opened, never for
 * a message.
 *
 * Should the clock be set back, tokens that have been forgotten would be good again: those are refused.
 */
#ifndef TWINPORT_WANSERVER_REPLAY_H
#define TWINPORT_WANSERVER_REPLAY_H

#include <stdint.h>

#include "proto/token.h"
#include "twinport/error.h"

typedef struct tp__replay tp__replay;

typedef enum tp__freshness {
    TP__FRESH, /* never used before; it is now */
    TP__SEEN, /* used before, or nobody can tell: it has expired, or expired before the clock was set back */
    TP__REPLAY_FULL /* as many as can be remembered are alive */
} tp__freshness;

/* `tokens`: how many are remembered, 1 or more. TP_ERR_INVALID, TP_ERR_NO_MEMORY. */
tp_err tp__replay_create(unsigned tokens, tp__replay **replay);
/* No thread may use it any more. NULL is ignored. */
void tp__replay_destroy(tp__replay *replay);

/* Uses the token with this id. Both times in the token's unit: seconds since 1970. */
tp__freshness tp__replay_take(
    tp__replay *replay, const uint8_t id[TP_TOKEN_ID_SIZE], uint64_t expiry, uint64_t now);

/* Tokens remembered now. */
unsigned tp__replay_count(tp__replay *replay);

#endif
