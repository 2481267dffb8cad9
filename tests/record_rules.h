/*
 * Rules of records that a test changes, in place of the library's constants (proto/record_rules.c).
 * Included by one file of a test program. They belong to the whole process, and are set before a
 * direction is used.
 */
#ifndef TWINPORT_TESTS_RECORD_RULES_H
#define TWINPORT_TESTS_RECORD_RULES_H

#include "proto/record.h"
#include "proto/record_rules_internal.h"

static tp__record_rules test_record_rules = {.rekey_interval = TP_RECORD_REKEY};

const tp__record_rules *const tp__record_rules_in_use = &test_record_rules;

/* Sets the interval of REKEY (a power of two); 0: 2^20 again. */
static inline void test_record_rekey_interval(uint64_t interval) {
    atomic_store_explicit(&test_record_rules.rekey_interval,
        interval > 0 ? interval : TP_RECORD_REKEY, memory_order_relaxed);
}

/* NULL: no observer. */
static inline void test_record_observe(tp__record_observer *observer, void *context) {
    atomic_store_explicit(&test_record_rules.observer_context, context, memory_order_relaxed);
    atomic_store_explicit(&test_record_rules.observer, observer, memory_order_relaxed);
}

#endif
