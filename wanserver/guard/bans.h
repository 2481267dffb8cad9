/*
 * Networks that are refused at accept, until a time or until the ban is lifted.
 *
 * All memory is allocated at create. An address is looked up once for each prefix length that has a
 * ban (usually one or two), so a full list costs an accept no more than a short one. Any thread:
 * the mutex inside is taken when a connection is accepted, never for a message.
 */
#ifndef TWINPORT_WANSERVER_GUARD_BANS_H
#define TWINPORT_WANSERVER_GUARD_BANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/wanserver.h"

#define TP__BANS_MAX TP_WANSERVER_MAX_BANS

typedef struct tp__bans tp__bans;

/* TP_ERR_NO_MEMORY. */
tp_err tp__bans_create(tp__bans **bans);
/* No thread may use it any more. NULL is ignored. */
void tp__bans_destroy(tp__bans *bans);

/* Bans a network until `until_ms` on the clock of `now_ms` (0: until it is lifted). A network that
 * is banned already gets the new time. TP_ERR_INVALID (more than 128 bits, or bits set behind the
 * length), TP_ERR_FULL (TP__BANS_MAX bans that have not expired). */
tp_err tp__bans_add(tp__bans *bans, const tp_network *network, uint64_t until_ms, uint64_t now_ms);
/* Bans these networks and no others, in one step: no thread sees a part of them. Of a network given
 * twice the last counts. TP_ERR_INVALID (as above, or a time that does not fit into 64 bits of
 * milliseconds), TP_ERR_FULL (more than TP__BANS_MAX); then nothing has changed. */
tp_err tp__bans_replace(tp__bans *bans, const tp_ban *list, size_t count, uint64_t now_ms);
/* The end of a ban of `seconds` from now; 0 (never) for 0 seconds. False: it does not fit into 64
 * bits of milliseconds. */
bool tp__ban_until(uint64_t seconds, uint64_t now_ms, uint64_t *until_ms);
/* Lifts the ban of exactly this network; false: there is none. */
bool tp__bans_lift(tp__bans *bans, const tp_network *network, uint64_t now_ms);
/* True if no banned network contains the address. */
bool tp__bans_admit(tp__bans *bans, const tp_address *address, uint64_t now_ms);

/* The number of bans, including expired ones that no look-up has met since. */
unsigned tp__bans_count(tp__bans *bans);

/* NULL, or the text of an invariant that does not hold (core/base/invariant.h). Walks over all
 * bans; under the mutex inside, or when no thread uses it any more. */
const char *tp__bans_check(tp__bans *bans);

#endif
