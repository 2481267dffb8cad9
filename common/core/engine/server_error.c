/*
 * Errors that no call can return: they are counted, logged and passed to on_error. Runs on the
 * worker where the error occurred or, without a worker, on the thread inside start. Owns nothing.
 */
#include "core/engine/server_state.h"
#include "twinport/log.h"

void tp__server_error(
    tp_server *server, tp__worker *worker, tp_err error, int os_error, const char *where) {
    assert(error != TP_OK);
    assert(!worker || tp__worker_here(server) == worker);
    TP__COUNT(server, worker, errors, 1);
    TP_LOG(TP_LOG_ERROR, "%s: %s: %s (%s, system error %d)", server->name, where,
        tp_err_text(error), tp_err_name(error), os_error);
    if (server->handlers.on_error) {
        server->handlers.on_error(server, error, os_error, where);
    }
}
