/*
 * The kinds of references to a session. Every reference is one count in the session's life word
 * (life.h); a build with assertions also counts them by kind. So a reference that is given back
 * twice, or as another kind than it was taken, ends the process at the place where that happens,
 * and one that is never given back has a name in a debugger.
 *
 *     SOCKET      the open socket: from the open to the completion of the close
 *     START       a posted start, until the session's worker has begun to serve it
 *     FLUSH       the flusher, from the push that made it the flusher until it retires
 *     CALL        a call that entered by id, or keeps the session for its own duration
 *     LAYER       work that the layer has given to other threads; one at a time
 *
 * A late caller (life.h) is in the word for a moment and has no kind.
 */
#ifndef TWINPORT_CORE_ENGINE_REFERENCES_H
#define TWINPORT_CORE_ENGINE_REFERENCES_H

#include <stdatomic.h>

#include "core/base/fatal.h"

/* X(kind, text, the most at a time; 0: any number) */
#define TP__REFERENCE_KINDS(X)                                                                     \
    X(SOCKET, "socket", 1)                                                                         \
    X(START, "start", 1)                                                                           \
    X(FLUSH, "flush", 0) /* the next flusher may begin before the last one has left */             \
    X(CALL, "call", 0)                                                                             \
    X(LAYER, "layer", 1)

typedef enum tp__reference {
#define TP__REFERENCE_ENUM(kind, text, most) TP__REFERENCE_##kind,
    TP__REFERENCE_KINDS(TP__REFERENCE_ENUM)
#undef TP__REFERENCE_ENUM
        TP__REFERENCE_KIND_COUNT
} tp__reference;

/* How many of each kind a session has. */
typedef struct tp__references {
    atomic_int counts[TP__REFERENCE_KIND_COUNT];
} tp__references;

static inline const char *tp__reference_text(tp__reference kind) {
    static const char *const texts[] = {
#define TP__REFERENCE_TEXT(kind, text, most) text,
        TP__REFERENCE_KINDS(TP__REFERENCE_TEXT)
#undef TP__REFERENCE_TEXT
    };
    return texts[kind];
}

static inline int tp__reference_most(tp__reference kind) {
    static const int most[] = {
#define TP__REFERENCE_MOST(kind, text, most) most,
        TP__REFERENCE_KINDS(TP__REFERENCE_MOST)
#undef TP__REFERENCE_MOST
    };
    return most[kind];
}

/* The caller has taken a reference of this kind. Relaxed: the life word orders the references. */
static inline void tp__references_add(tp__references *references, tp__reference kind) {
    int before = atomic_fetch_add_explicit(&references->counts[kind], 1, memory_order_relaxed);
    int most = tp__reference_most(kind);
    if (before < 0 || (most > 0 && before >= most)) {
        tp__fatal("a session has %d references of kind %s", before + 1, tp__reference_text(kind));
    }
}

/* The caller is about to give one back, before it does so in the life word. */
static inline void tp__references_subtract(tp__references *references, tp__reference kind) {
    int before = atomic_fetch_sub_explicit(&references->counts[kind], 1, memory_order_relaxed);
    if (before <= 0) {
        tp__fatal("a session had no reference of kind %s to give back", tp__reference_text(kind));
    }
}

/* The check for when all references should be gone: names a kind that is left, or NULL. */
static inline const char *tp__references_check(const tp__references *references) {
    static const char *const left[] = {
#define TP__REFERENCE_LEFT(kind, text, most) "a reference is left: " text,
        TP__REFERENCE_KINDS(TP__REFERENCE_LEFT)
#undef TP__REFERENCE_LEFT
    };
    for (tp__reference kind = 0; kind < TP__REFERENCE_KIND_COUNT; kind++) {
        if (atomic_load_explicit(&references->counts[kind], memory_order_relaxed) != 0) {
            return left[kind];
        }
    }
    return NULL;
}

#endif
