/*
 * Asks the system to run a server's workers sooner (the option low_latency). Each worker asks for
 * itself when it begins, because on some systems no other thread can. There is one flag for the
 * process: a refusal of the system is logged once, for all workers and servers.
 */
#include <stdatomic.h>

#include "core/engine/server_state.h"
#include "os/error.h"
#include "twinport/log.h"
#include "twinport/process.h"

static atomic_bool reported;

void tp__worker_apply_low_latency(const tp__worker *worker) {
    const tp_server *server = worker->server;
    tp_err error = server->options.low_latency ? tp_thread_ask_low_latency() : TP_OK;
    if (error && !atomic_exchange(&reported, true)) {
        TP_LOG(TP_LOG_INFO, "%s: workers run without low latency: %s (system error %d)",
            server->name, tp_err_text(error), tp_os_error());
    }
}
