/*
 * The thread cache: created at the thread's first use of a pool or packet, freed when the thread
 * ends. All functions run on the thread that the cache belongs to.
 */
#include "core/memory/thread_cache.h"

#include <assert.h>

#include "core/memory/memory.h"

/* Each hook gets the cache as its argument and does not call tp_thread_record(), which at this
 * moment need not return the cache any more. */
static void at_thread_end(void *record) {
    tp__thread_cache *thread = record;
    assert(thread != NULL);
    for (unsigned i = 0; i < TP__EXIT_HOOKS; i++) {
        if (thread->exit_hooks[i] != NULL) {
            thread->exit_hooks[i](thread);
        }
    }
    tp__free(thread);
}

tp__thread_cache *tp__thread_cache_create(void) {
    assert(tp_thread_record() == NULL);
    tp__thread_cache *thread = tp__allocate_zeroed(1, sizeof *thread);
    if (thread == NULL) {
        return NULL;
    }
    if (tp_thread_set_record(thread, at_thread_end) != TP_OK) {
        tp__free(thread);
        return NULL;
    }
    return thread;
}
