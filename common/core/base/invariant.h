/*
 * Checked invariants. A structure's function `..._check()` checks the whole structure and returns
 * the text of the first condition that is false, or NULL. Any build can call it, so a test can
 * damage a structure and see that the check finds it. Product code calls it through TP__VERIFY,
 * which is compiled only with assertions: in the debug and sanitizer builds and the fuzzers.
 */
#ifndef TWINPORT_CORE_BASE_INVARIANT_H
#define TWINPORT_CORE_BASE_INVARIANT_H

#include <stddef.h>

#include "core/base/fatal.h"

/* In a check function: returns the condition's text from it if the condition is false. */
#define TP__INVARIANT(condition)                                                                   \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return #condition;                                                                     \
        }                                                                                          \
    } while (0)

/* Ends the process with the text of a broken invariant. `check`: a call of a check function. */
#ifdef NDEBUG
#define TP__VERIFY(check) ((void)0)
#else
#define TP__VERIFY(check)                                                                          \
    do {                                                                                           \
        const char *broken_ = (check);                                                             \
        if (broken_) {                                                                             \
            tp__fatal("%s:%d: invariant broken: %s", __FILE__, __LINE__, broken_);                 \
        }                                                                                          \
    } while (0)
#endif

#endif
