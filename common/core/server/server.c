/*
 * A server: create, destroy, and its description.
 *
 * Create and destroy run on the application's threads. The server owns its memory from the one to
 * the other, and its port and threads only while it runs (server_run.c).
 */
#include <string.h>

#include "core/base/fatal.h"
#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "core/session/send_batch.h"

/* ---- create and destroy ---------------------------------------------------------------------- */

/* Copies the allowed networks, and behind them the denied ones, into memory of the server. */
static tp_err copy_access(tp_server *server) {
    tp_access *access = &server->options.access;
    size_t count = access->allow_count + access->deny_count;
    if (count == 0) {
        return TP_OK;
    }
    server->networks = tp__allocate(count * sizeof *server->networks);
    if (!server->networks) {
        return TP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < access->allow_count; i++) {
        server->networks[i] = access->allow[i];
    }
    for (size_t i = 0; i < access->deny_count; i++) {
        server->networks[access->allow_count + i] = access->deny[i];
    }
    access->allow = server->networks;
    access->deny = server->networks + access->allow_count;
    return TP_OK;
}

static void copy_text(char *to, size_t size, const char *from) {
    assert(size > 0);
    size_t length = strlen(from);
    if (length >= size) {
        length = size - 1;
    }
    memcpy(to, from, length);
    to[length] = '\0';
}

static tp_err server_allocate(tp_server *server) {
    const tp_server_options *options = &server->options;
    uint32_t extra = TP_SERVER_ENDING(options->max_sessions) + server->layer.extra_slots;
    uint32_t slots = options->max_sessions;
    slots = slots + extra <= TP_MAX_SESSIONS ? slots + extra : TP_MAX_SESSIONS;
    tp_err error = tp__pools_open();
    if (!error && options->reserve_bytes > 0) {
        error = tp__packets_reserve(options->reserve_bytes);
        server->reserved = error == TP_OK;
    }
    if (!error) {
        error = copy_access(server);
    }
    if (!error) {
        error = tp__slots_create(&server->slots, slots);
    }
    if (error) {
        return error;
    }
    server->sessions = tp__allocate_zeroed(slots, sizeof *server->sessions);
    server->workers = tp__allocate_zeroed(options->workers, sizeof *server->workers);
    server->ledger = tp__ledger_create();
    if (server->layer.state_bytes > 0) {
        server->layer_states = tp__allocate_zeroed(slots, server->layer.state_bytes);
    }
    bool have_states = server->layer_states || server->layer.state_bytes == 0;
    return server->sessions && server->workers && server->ledger && have_states ? TP_OK
                                                                                : TP_ERR_NO_MEMORY;
}

static void server_free(tp_server *server) {
    assert(tp__server_state_now(server) == TP__SERVER_IDLE && !server->port);
    TP__VERIFY(tp__slots_check(&server->slots, atomic_load(&server->slots_used)));
    if (server->reserved) {
        tp__packets_unreserve(server->options.reserve_bytes);
    }
    tp__ledger_destroy(server->ledger);
    tp__free(server->workers);
    tp__free(server->layer_states);
    tp__free(server->sessions);
    tp__slots_destroy(&server->slots);
    tp__free(server->networks);
    tp__tasks_destroy(&server->tasks);
    tp_condition_destroy(&server->changed);
    tp_mutex_destroy(&server->mutex);
    tp__free(server);
}

static void server_init(tp_server *server, const tp_server_options *options,
    const tp_handlers *handlers, const tp__layer *layer) {
    server->options = *options;
    server->handlers = *handlers;
    server->send_packets = TP_PORT_MAX_BUFFERS;
    server->send_bytes = TP__SEND_BYTES;
    if (layer) {
        server->layer = *layer;
    }
    if (server->layer.fill) { /* a layer makes few buffers of many packets */
        server->send_packets = UINT32_MAX;
        server->send_bytes = server->layer.fill_bytes;
    }
    assert(server->send_packets > 0 && server->send_bytes > 0);
    copy_text(server->name, sizeof server->name, options->name);
    copy_text(server->io, sizeof server->io, options->io);
    server->options.name = server->name;
    server->options.io = server->io;
    server->io_in_use = "";
    atomic_init(&server->state, TP__SERVER_IDLE);
    atomic_init(&server->next_number, 1);
    tp__tasks_init(&server->tasks);
    tp_mutex_init(&server->mutex);
    tp_condition_init(&server->changed);
}

tp_err tp__server_create_layered(const tp_server_options *options, const tp_handlers *handlers,
    const tp__layer *layer, tp_server **server) {
    *server = NULL;
    tp_server_options complete;
    tp_err error = handlers->size == sizeof *handlers
                       ? tp__server_options_complete(options, &complete)
                       : tp__server_options_wrong("handlers");
    if (error) {
        return error;
    }
    tp_server *made = tp__allocate_zeroed(1, sizeof *made);
    if (!made) {
        return TP_ERR_NO_MEMORY;
    }
    server_init(made, &complete, handlers, layer);
    error = server_allocate(made);
    if (error) {
        server_free(made);
        return error;
    }
    *server = made;
    return TP_OK;
}

tp_err tp_server_create(
    const tp_server_options *options, const tp_handlers *handlers, tp_server **server) {
    return tp__server_create_layered(options, handlers, NULL, server);
}

const tp__layer *tp__server_layer(
    const tp_server *server, void (*begin)(tp__session *session, tp__worker *worker)) {
    return server->layer.begin == begin ? &server->layer : NULL;
}

void tp_server_destroy(tp_server *server) {
    if (!server) {
        return;
    }
    if (tp__worker_here(server)) {
        tp__fatal("tp_server_destroy(%s) was called from a handler of that server", server->name);
    }
    if (tp__server_state_now(server) != TP__SERVER_IDLE) {
        atomic_store(&server->no_drain, true);
        tp_server_stop(server);
        tp_server_wait(server, -1);
    }
    if (server->layer.destroy) {
        server->layer.destroy(server->layer.context);
    }
    server_free(server);
}

/* ---- its description ------------------------------------------------------------------------- */

void *tp_server_context(const tp_server *server) {
    return server->options.context;
}

/* What a start or the end of a run writes is read under the mutex. Locking it is not a change that
 * the caller can see. */
static tp_mutex *server_mutex(const tp_server *server) {
    return (tp_mutex *)(uintptr_t)&server->mutex;
}

tp_address tp_server_address(const tp_server *server) {
    tp_mutex_lock(server_mutex(server));
    tp_address address = server->listener.bound;
    tp_mutex_unlock(server_mutex(server));
    return address;
}

const char *tp_server_io(const tp_server *server) {
    tp_mutex_lock(server_mutex(server));
    const char *io = server->io_in_use;
    tp_mutex_unlock(server_mutex(server));
    return io;
}
