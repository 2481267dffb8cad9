/*
 * A server's counters: one row for each worker, which only that worker writes, and one row that all
 * other threads share. Any thread reads them.
 *
 * Each row ends with padding of one cache line, so that no two rows share a line wherever the
 * allocator puts the table. The type asks for no alignment: the table comes from calloc(), which
 * aligns to 16 bytes, and a type of a larger alignment would let the compiler use instructions that
 * fault there.
 */
#ifndef TWINPORT_CORE_ENGINE_COUNTERS_H
#define TWINPORT_CORE_ENGINE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/base/counter.h"
#include "core/base/stats_list.h"
#include "os/compiler.h"
#include "twinport/session.h"

/*
 * The statistics of a server, which are the fields of tp_server_stats in their order:
 *
 *     COUNT(name)  summed over the rows
 *     NOW(name)    read elsewhere
 *     ENDS(name)   summed over the rows, by tp_end_reason
 */
#define TP__SERVER_STATS(COUNT, NOW, ENDS)                                                         \
    COUNT(accepted)                                                                                \
    COUNT(denied)                                                                                  \
    COUNT(full)                                                                                    \
    COUNT(cut_short)                                                                               \
    COUNT(accept_failures)                                                                         \
    COUNT(joined)                                                                                  \
    COUNT(left)                                                                                    \
    COUNT(received_messages)                                                                       \
    COUNT(received_bytes)                                                                          \
    COUNT(sent_messages)                                                                           \
    COUNT(sent_bytes)                                                                              \
    COUNT(sends)                                                                                   \
    COUNT(dropped)                                                                                 \
    COUNT(refused)                                                                                 \
    COUNT(no_session)                                                                              \
    COUNT(no_memory)                                                                               \
    COUNT(errors)                                                                                  \
    COUNT(memory_ended)                                                                            \
    NOW(memory_held)                                                                               \
    ENDS(ends)

typedef struct tp__counters {
#define TP__COUNTER_ENDS(name) _Atomic uint64_t name[TP_END_REASON_COUNT];
    TP__SERVER_STATS(TP__STATS_ATOMIC, TP__STATS_NONE, TP__COUNTER_ENDS)
#undef TP__COUNTER_ENDS
    uint8_t padding[TP_CACHE_LINE];
} tp__counters;

#endif
