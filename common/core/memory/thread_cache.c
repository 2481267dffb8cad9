/*
 * The thread's record: made at the thread's first use of a pool or packet, freed when the thread
 * ends. Everything here runs on the record's own thread.
 */
#include "core/memory/thread_cache.h"

#include "core/memory/memory.h"

/* Each function is told which record, and none asks for the thread's: that it is still there at
 * this moment is not promised. */
static void at_thread_end(void *record) {
    tp__local *local = record;
    for (unsigned i = 0; i < TP__LEAVES; i++) {
        if (local->leave[i] != NULL) {
            local->leave[i](local);
        }
    }
    tp__free(local);
}

tp__local *tp__local_create(void) {
    tp__local *local = tp__allocate_zeroed(1, sizeof *local);
    if (local == NULL) {
        return NULL;
    }
    if (tp_thread_set_record(local, at_thread_end) != TP_OK) {
        tp__free(local);
        return NULL;
    }
    return local;
}
