/*
 * Finds the calling thread's worker. Any thread may ask. A worker sets `worker` in its thread cache
 * when it begins and clears it when it ends (server/worker.c).
 */
#include "core/engine/server_state.h"
#include "core/memory/thread_cache.h"

tp__worker *tp__worker_here(const tp_server *server) {
    assert(server);
    tp__thread_cache *thread = tp_thread_record();
    tp__worker *worker = thread ? thread->worker : NULL;
    return worker && worker->server == server ? worker : NULL;
}
