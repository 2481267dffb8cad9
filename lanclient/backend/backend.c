/*
 * A backend: options, creation, start, stop, and queries. Threads: as the public header says.
 *
 * A backend owns a lanclient and is its context, so each of the client's handlers finds the
 * backend.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "lanclient/backend/backend_internal.h"
#include "twinport/log.h"

_Static_assert(sizeof(tp_player) == 16, "equal handles must be equal bytes");
_Static_assert(TP_PLAYER_RETURNS == (int)TP_GATE_RETURN && TP_PLAYER_MOVED == (int)TP_GATE_MOVED &&
                   TP_PLAYER_IDENTIFIED == (int)TP_GATE_IDENTIFIED,
    "flags are passed on unchanged");
_Static_assert(
    TP_PLAYER_USER_DATA == TP_GATE_USER_DATA && TP_PLAYER_BLOB_MAX == TP_GATE_BLOB_MAX, "likewise");

const char *tp_leave_name(tp_leave why) {
    switch (why) {
    case TP_LEAVE_ENDED:
        return "ended";
    case TP_LEAVE_MOVED:
        return "moved";
    case TP_LEAVE_GATE_LOST:
        return "gate lost";
    case TP_LEAVE_BUS_LOST:
        return "bus lost";
    case TP_LEAVE_STOPPED:
        return "stopped";
    case TP_LEAVE_REPLACED:
        return "replaced";
    }
    return "unknown";
}

void tp_backend_defaults(tp_backend_options *options) {
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    tp_lanclient_defaults(&options->bus);
    options->gates = TP_GATE_SERVICE;
    options->max_players = 4096;
    options->max_gates = 16;
}

/* The first fault of options or handlers, or NULL. Options that lanclient checks itself are not
 * checked here. */
static const char *backend_options_fault(
    const tp_backend_options *options, const tp_backend_handlers *handlers) {
    if (options->size != sizeof *options || handlers->size != sizeof *handlers) {
        return "options.size, handlers.size: not of this version";
    }
    if (handlers->bus.size != 0 && handlers->bus.size != sizeof handlers->bus) {
        return "handlers.bus.size: not of this version";
    }
    if (!options->gates || !tp_bus_name_valid(options->gates, strlen(options->gates))) {
        return "gates: 1..63 bytes of a-z 0-9 . _ -";
    }
    if (options->bus.service && strcmp(options->bus.service, options->gates) == 0) {
        return "gates: must differ from bus.service, whose peers would be taken for gates";
    }
    if (options->max_players < 1 || options->max_players > TP_MAX_SESSIONS) {
        return "max_players: 1..1,048,576";
    }
    if (options->max_gates < 1 || options->max_gates > TP_BACKEND_MAX_GATES) {
        return "max_gates: 1..256";
    }
    return NULL;
}

tp_err tp_backend_create(
    const tp_backend_options *options, const tp_backend_handlers *handlers, tp_backend **created) {
    *created = NULL;
    const char *fault = backend_options_fault(options, handlers);
    if (fault) {
        TP_LOG(TP_LOG_ERROR, "backend: %s", fault);
        return TP_ERR_INVALID;
    }
    tp_backend *backend = tp__allocate_zeroed(1, sizeof *backend);
    if (!backend) {
        return TP_ERR_NO_MEMORY;
    }
    backend->options = *options;
    backend->handlers = *handlers;
    snprintf(backend->gate_service, sizeof backend->gate_service, "%s", options->gates);
    backend->options.gates = backend->gate_service;
    backend->options.bus.context = backend;
    tp_mutex_init(&backend->mutex);
    tp_err error = tp__backend_players_create(backend);
    if (!error) {
        error =
            tp_lanclient_create(&backend->options.bus, &tp__backend_bus_handlers, &backend->client);
    }
    if (error) {
        tp_backend_destroy(backend);
        return error;
    }
    *created = backend;
    return TP_OK;
}

void tp_backend_destroy(tp_backend *backend) {
    if (!backend) {
        return;
    }
    tp_lanclient_destroy(backend->client); /* its last handlers make all players leave */
    if (backend->client) {                 /* else it may have been created in part */
        TP__VERIFY(tp__backend_check(backend));
    }
    tp__backend_players_destroy(backend);
    tp_mutex_destroy(&backend->mutex);
    tp__free(backend);
}

tp_err tp_backend_start(tp_backend *backend) {
    return tp_lanclient_start(backend->client);
}

void tp_backend_stop(tp_backend *backend) {
    tp_lanclient_stop(backend->client);
}

tp_err tp_backend_wait(tp_backend *backend, int timeout_ms) {
    return tp_lanclient_wait(backend->client, timeout_ms);
}

void *tp_backend_context(const tp_backend *backend) {
    return backend->options.context;
}

tp_lanclient *tp_backend_client(const tp_backend *backend) {
    return backend->client;
}

tp_backend *tp_backend_of(const tp_lanclient *client) {
    return tp_lanclient_context(client);
}

/* ---- queries --------------------------------------------------------------------------------- */

unsigned tp_backend_player_count(const tp_backend *backend) {
    return atomic_load_explicit(&backend->player_count, memory_order_relaxed);
}

bool tp_backend_player_info(tp_backend *backend, const tp_player *player, tp_player_info *info) {
    size_t size = info->size;
    tp_mutex_lock(&backend->mutex);
    bool present = tp__backend_has(backend, player);
    if (present) {
        const tp_player_info *known = &backend->players[player->index].info;
        memcpy(info, known, size < sizeof *known ? size : sizeof *known);
        info->size = size;
    }
    tp_mutex_unlock(&backend->mutex);
    return present;
}

struct backend_stats_listed {
    size_t size;
    TP__BACKEND_STATS(TP__STATS_FIELD)
};
#define TIE(name) TP__STATS_TIE_FIELD(struct backend_stats_listed, tp_backend_stats, name)
TP__STATS_TIE(struct backend_stats_listed, tp_backend_stats);
TP__BACKEND_STATS(TIE)
#undef TIE

void tp_backend_get_stats(const tp_backend *backend, tp_backend_stats *stats) {
    size_t size = stats->size;
    tp_backend_stats now = {.size = size};
#define READ(name) now.name = tp__count_read(&backend->name);
    TP__BACKEND_STATS(READ)
#undef READ
    memcpy(stats, &now, size < sizeof now ? size : sizeof now);
}
