/*
 * The memory budget of the process, for a server that has a memory_limit.
 */
#ifndef TWINPORT_CORE_SERVER_BUDGET_H
#define TWINPORT_CORE_SERVER_BUDGET_H

#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "os/compiler.h"

/* The process holds more than memory_limit: gives back free memory, and if that is not enough, ends
 * the session with the largest queue. */
void tp__budget_enforce(tp__worker *worker);

/* Called in each round of a worker's loop. */
static inline void tp__budget(tp__worker *worker) {
    uint64_t limit = worker->server->options.memory_limit;
    if (TP_UNLIKELY(limit != 0) && TP_UNLIKELY(tp__memory_held() > limit)) {
        tp__budget_enforce(worker);
    }
}

#endif
