/*
 * Networks that are turned away at accept, until a time or until they are lifted.
 *
 * All memory is allocated at create. An address is looked up once for each length of prefix in use
 * (mostly one or two), so a full list costs an accept no more than a short one. Any thread: a mutex
 * inside, taken when a connection comes, never for a message.
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

/* Bans a network until `until_ms` on the clock that `now_ms` is of (0: until it is lifted). For one
 * that is banned already the new time counts. TP_ERR_INVALID (more than 128 bits, or bits set
 * behind them), TP_ERR_FULL (TP__BANS_MAX that have not expired). */
tp_err tp__bans_add(tp__bans *bans, const tp_network *network, uint64_t until_ms, uint64_t now_ms);
/* Bans these networks and no others, in one go: nobody meets a part of them. Of one that is given
 * twice the last counts. TP_ERR_INVALID (as above, or more seconds than there are), TP_ERR_FULL
 * (more than TP__BANS_MAX); then nothing has changed. */
tp_err tp__bans_replace(tp__bans *bans, const tp_ban *list, size_t count, uint64_t now_ms);
/* When so many seconds are over; 0 for none, which is never. False: there are not so many. */
bool tp__ban_until(uint64_t seconds, uint64_t now_ms, uint64_t *until_ms);
/* False if exactly this network is not banned. */
bool tp__bans_lift(tp__bans *bans, const tp_network *network, uint64_t now_ms);
/* True if no network that is banned contains the address. */
bool tp__bans_admit(tp__bans *bans, const tp_address *address, uint64_t now_ms);

/* Bans kept, those included that have expired and have not been met since. */
unsigned tp__bans_count(tp__bans *bans);

#endif
