/*
 * The rules that all directions follow: when a key changes, and what observes the use of keys.
 *
 * They are constants of the library (record_rules.c), so that nothing changes them while a program
 * runs. A test program that needs others defines tp__record_rules_in_use itself
 * (tests/record_rules.h), and the linker then leaves record_rules.c in the library. Not installed.
 */
#ifndef TWINPORT_PROTO_RECORD_RULES_INTERNAL_H
#define TWINPORT_PROTO_RECORD_RULES_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Called before each use of a key with a counter, and with UINT64_MAX for REKEY. `key_id`
 * identifies suite and key, and is the same at both ends. */
typedef void tp__record_observer(uint64_t key_id, uint64_t counter, bool sealing, void *context);

typedef struct tp__record_rules {
    _Atomic(uint64_t) rekey_interval;        /* a power of two */
    _Atomic(tp__record_observer *) observer; /* NULL: none */
    _Atomic(void *) observer_context;
} tp__record_rules;

extern const tp__record_rules *const tp__record_rules_in_use;

#endif
