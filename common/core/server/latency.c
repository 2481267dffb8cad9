/*
 * Workers that ask the system to run them sooner (the option low_latency). Each worker does it for
 * itself when it begins, since on some systems a thread has this from nobody else. Holds one flag
 * for the process: what the system does not give is said once, however many workers and servers
 * miss it.
 */
#include <stdatomic.h>

#include "core/engine/server_state.h"
#include "os/error.h"
#include "twinport/log.h"
#include "twinport/process.h"

static atomic_bool said;

void tp__worker_take_latency(const tp__worker *worker) {
    const tp_server *server = worker->server;
    tp_err error = server->options.low_latency ? tp_thread_ask_low_latency() : TP_OK;
    if (error && !atomic_exchange(&said, true)) {
        TP_LOG(TP_LOG_INFO,
            "%s: the system gives its threads no low latency: %s (system code %d); all goes on "
            "without it",
            server->name, tp_err_text(error), tp_os_error());
    }
}
