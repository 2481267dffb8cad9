/*
 * The statistics of a WAN server, as a list and as text. Any thread.
 */
#ifndef TWINPORT_WANSERVER_WAN_STATS_H
#define TWINPORT_WANSERVER_WAN_STATS_H

#include <stddef.h>

#include "core/base/stats_list.h"
#include "twinport/wanserver.h"

/*
 * The fields of tp_wanserver_stats in their order:
 *
 *     NOW(name)     a number of this moment, which the text does not have
 *     COUNT(name)   one for all workers, in tp__wan
 *     OTHER(name)   counted elsewhere
 *     WORKER(name)  summed over the workers
 */
#define TP__WAN_STATS(NOW, COUNT, OTHER, WORKER)                                                   \
    NOW(pending)                                                                                   \
    COUNT(established)                                                                             \
    COUNT(banned)                                                                                  \
    COUNT(limited)                                                                                 \
    COUNT(evicted)                                                                                 \
    COUNT(crowded)                                                                                 \
    COUNT(late)                                                                                    \
    COUNT(gone)                                                                                    \
    COUNT(foreign)                                                                                 \
    COUNT(other_version)                                                                           \
    COUNT(expired)                                                                                 \
    COUNT(long_lived)                                                                              \
    COUNT(unknown_key)                                                                             \
    COUNT(forged)                                                                                  \
    COUNT(replayed)                                                                                \
    COUNT(replay_full)                                                                             \
    COUNT(busy)                                                                                    \
    COUNT(not_authentic)                                                                           \
    COUNT(diffie_hellman)                                                                          \
    OTHER(overdue)                                                                                 \
    COUNT(not_ready)                                                                               \
    COUNT(tampered)                                                                                \
    COUNT(rate_limited)                                                                            \
    COUNT(key_limit)                                                                               \
    WORKER(records_sealed)                                                                         \
    WORKER(records_opened)

/* The fields of tp_server_stats that the text begins with. */
#define TP__WAN_SERVER_STATS(X)                                                                    \
    X(denied)                                                                                      \
    X(full)                                                                                        \
    X(cut_short)                                                                                   \
    X(memory_ended)                                                                                \
    X(memory_held)

/* Writes the statistics into `text` as `name=value` lines and a zero byte; a line that does not fit
 * into `capacity` is left out. Returns the number of bytes before the zero byte. */
#define TP__WAN_STATS_TEXT_SIZE 2048 /* enough for all lines */
size_t tp__wan_stats_text(const tp_server *server, char *text, size_t capacity);

#endif
