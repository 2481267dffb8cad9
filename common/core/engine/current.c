/*
 * The calling thread's worker. Any thread asks; the worker writes its name into its thread's cache
 * when it begins and takes it out when it ends (server/worker.c).
 */
#include "core/engine/server_state.h"
#include "core/memory/thread_cache.h"

tp__worker *tp__worker_here(const tp_server *server) {
    tp__local *local = tp_thread_record();
    tp__worker *worker = local ? local->worker : NULL;
    return worker && worker->server == server ? worker : NULL;
}
