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
#include "os/compiler.h"
#include "twinport/session.h"

#define TP__COUNTERS(X)                                                                            \
    X(accepted)                                                                                    \
    X(denied)                                                                                      \
    X(full)                                                                                        \
    X(cut_short)                                                                                   \
    X(accept_failures)                                                                             \
    X(joined)                                                                                      \
    X(left)                                                                                        \
    X(received_messages)                                                                           \
    X(received_bytes)                                                                              \
    X(sent_messages)                                                                               \
    X(sent_bytes)                                                                                  \
    X(sends)                                                                                       \
    X(dropped)                                                                                     \
    X(refused)                                                                                     \
    X(no_session)                                                                                  \
    X(no_memory)                                                                                   \
    X(memory_ended)                                                                                \
    X(errors)

typedef struct tp__counters {
#define TP__COUNTER_FIELD(name) _Atomic uint64_t name;
    TP__COUNTERS(TP__COUNTER_FIELD)
#undef TP__COUNTER_FIELD
    _Atomic uint64_t ends[TP_END_REASON_COUNT];
    uint8_t padding[TP_CACHE_LINE];
} tp__counters;

#endif
