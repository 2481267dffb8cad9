/*
 * Whose session it is, readable by any thread at any moment, also while the session ends.
 *
 * A reader cannot hold the session: on_leave runs when nobody can any more. So the cell is read
 * without a hold and checked afterwards. `session` is set last and cleared first; all stores are
 * release and all loads acquire, so who has read a word of another life, or a wiped one, finds
 * another `session` when it looks again.
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_IDENTITY_H
#define TWINPORT_WANSERVER_HANDSHAKE_IDENTITY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/token.h"
#include "twinport/session.h"

#define TP__IDENTITY_WORDS (2u + TP_TOKEN_USER_DATA / 8u)

typedef struct tp__identity_cell {
    _Atomic uint64_t session; /* 0: nobody's */
    _Atomic uint64_t words[TP__IDENTITY_WORDS];
} tp__identity_cell;

/* One thread at a time writes. Filled, it is nobody's before it is published. */
void tp__identity_fill(tp__identity_cell *cell, const tp_identity *identity);
void tp__identity_publish(tp__identity_cell *cell, tp_session_id session);
void tp__identity_clear(tp__identity_cell *cell);

/* False if the cell is not this session's. Any thread. */
bool tp__identity_read(const tp__identity_cell *cell, tp_session_id session, tp_identity *identity);

#endif
