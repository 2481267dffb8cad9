/*
 * The budget of the process's memory, for a server that has been given one (memory_limit).
 */
#ifndef TWINPORT_CORE_SERVER_BUDGET_H
#define TWINPORT_CORE_SERVER_BUDGET_H

#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "os/compiler.h"

/* The process holds more than the server's memory_limit: what can be spared is given back, and if
 * that is not enough, the session with the largest queue is ended. */
void tp__budget_enforce(tp__worker *worker);

/* A worker's loop calls it in each round. */
static inline void tp__budget(tp__worker *worker) {
    uint64_t limit = worker->server->options.memory_limit;
    if (TP_UNLIKELY(limit != 0) && TP_UNLIKELY(tp__memory_held() > limit)) {
        tp__budget_enforce(worker);
    }
}

#endif
