/*
 * The identity of a session's player, readable by any thread at any moment, also while the session
 * ends.
 *
 * A reader cannot have a reference to the session: on_leave runs when no reference can be taken any
 * more. So the cell is read without one and checked afterwards. `session` is set last and cleared
 * first. All stores are release and all loads acquire, so a reader that has read a word of another
 * session, or a cleared one, finds another value of `session` when it looks again.
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
    _Atomic uint64_t session; /* 0: of no session */
    _Atomic uint64_t words[TP__IDENTITY_WORDS];
} tp__identity_cell;

/* One thread at a time writes. After fill, the cell is of no session until publish. */
void tp__identity_fill(tp__identity_cell *cell, const tp_identity *identity);
void tp__identity_publish(tp__identity_cell *cell, tp_session_id session);
void tp__identity_clear(tp__identity_cell *cell);

/* False if the cell is not of this session. Any thread. */
bool tp__identity_read(const tp__identity_cell *cell, tp_session_id session, tp_identity *identity);

#endif
