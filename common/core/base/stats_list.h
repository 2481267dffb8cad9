/*
 * Lists of statistics. Each set of counters is listed once, in an X-macro; the internal fields, the
 * sum, the printed lines and the table in docs/statistics.md come from that list. No state.
 *
 * A list has one macro parameter for each kind of counter, and its head says what they are. The
 * macros below are arguments that several users of the lists need.
 *
 * A public struct of twinport/ is written out with its comments. TP__STATS_TIE() compares it with
 * its list: a field that the list lacks, or has elsewhere, does not compile.
 */
#ifndef TWINPORT_CORE_BASE_STATS_LIST_H
#define TWINPORT_CORE_BASE_STATS_LIST_H

#include <stddef.h>
#include <stdint.h>

#define TP__STATS_NONE(...)    /* this kind is left out */
#define TP__STATS_FIELD(name)  uint64_t name;
#define TP__STATS_ATOMIC(name) _Atomic uint64_t name;

/* `listed` is a struct made of size_t size and the list's fields. */
#define TP__STATS_TIE(listed, type)                                                                \
    _Static_assert(sizeof(listed) == sizeof(type), "a field of " #type " is not in its list")
#define TP__STATS_TIE_FIELD(listed, type, name)                                                    \
    _Static_assert(offsetof(listed, name) == offsetof(type, name),                                 \
        #type "." #name " is not at its place in the list");

#endif
