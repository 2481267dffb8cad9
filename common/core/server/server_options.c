/*
 * A server's options: defaults, and the range of each. No state; any thread.
 */
#include <string.h>

#include "core/base/access.h"
#include "core/engine/server_state.h"
#include "twinport/log.h"

void tp_server_defaults(tp_server_options *options) {
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    options->name = "server";
    options->listen = true;
    options->backlog = 1024;
    options->access.size = sizeof options->access;
    options->io = "auto";
    options->nodelay = true;
    options->receive_buffer = 65536;
    options->reserve_descriptors = 16;
    options->max_sessions = 1024;
    options->max_frame = (size_t)1 << 20;
    options->queue_bytes = (size_t)16 << 20;
    options->queue_packets = 65536;
    options->queue_policy = TP_QUEUE_DISCONNECT;
    options->idle_timeout_ms = 60000;
    options->ping_interval_ms = 30000;
    options->connect_timeout_ms = 5000;
    options->drain_timeout_ms = 5000;
}

typedef struct option_range {
    const char *option;
    uint64_t value;
    uint64_t min;
    uint64_t max;
    bool zero_allowed;
} option_range;

static bool option_in_range(const option_range *r) {
    return (r->value >= r->min && r->value <= r->max) || (r->value == 0 && r->zero_allowed);
}

tp_err tp__server_options_wrong(const char *what) {
    TP_LOG(TP_LOG_ERROR, "server %s: not of this version, or a required field is missing", what);
    return TP_ERR_INVALID;
}

/* A struct of another size is not even copied, because it may be shorter. */
static bool options_are_whole(const tp_server_options *given) {
    return given->size == sizeof *given && given->access.size == sizeof given->access &&
           given->name && given->io && (given->access.allow || given->access.allow_count == 0) &&
           (given->access.deny || given->access.deny_count == 0);
}

static bool options_refuse(
    const char *one, unsigned value, const char *other, unsigned other_value, const char *why) {
    TP_LOG(TP_LOG_ERROR, "server options: %s is %u and %s is %u: %s", one, value, other,
        other_value, why);
    return false;
}

/* Relations between options that are each in range. max_frame may be above queue_bytes: what is
 * received need not be sent, and an empty queue takes any packet. */
static bool server_options_fit(const tp_server_options *options) {
    unsigned idle = options->idle_timeout_ms;
    unsigned ping = options->ping_interval_ms;
    if (idle != 0 && ping >= idle) {
        return options_refuse("ping_interval_ms", ping, "idle_timeout_ms", idle,
            "expected ping_interval_ms below idle_timeout_ms, or 0 for none");
    }
    if (options->memory_limit != 0 && options->memory_limit < options->reserve_bytes) {
        TP_LOG(TP_LOG_ERROR,
            "server options: memory_limit is %llu and reserve_bytes is %llu: expected memory_limit "
            "not below reserve_bytes, or 0 for none",
            (unsigned long long)options->memory_limit, (unsigned long long)options->reserve_bytes);
        return false;
    }
    if (options->workers != 0 && options->running > options->workers) {
        return options_refuse("running", options->running, "workers", options->workers,
            "expected running not above workers, or 0 for all");
    }
    return true;
}

static bool networks_are_whole(const char *option, const tp_network *networks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!tp__network_is_valid(&networks[i])) {
            TP_LOG(TP_LOG_ERROR, "server options: %s[%u].bits is %u: expected 0 to 128", option,
                (unsigned)i, (unsigned)networks[i].bits);
            return false;
        }
    }
    return true;
}

tp_err tp__server_options_complete(const tp_server_options *given, tp_server_options *options) {
    if (!options_are_whole(given)) {
        return tp__server_options_wrong("options");
    }
    *options = *given;
    const option_range ranges[] = {
        {"workers", options->workers, 1, TP_PORT_MAX_WORKERS, true},
        {"running", options->running, 1, TP_PORT_MAX_WORKERS, true},
        {"backlog", options->backlog, 1, 65535, !options->listen},
        {"receive_buffer", options->receive_buffer, 4096, 1048576, false},
        {"reserve_descriptors", options->reserve_descriptors, 0, 65536, true},
        {"max_sessions", options->max_sessions, 1, TP_MAX_SESSIONS, false},
        {"max_frame", options->max_frame, 1, TP_PACKET_MAX, false},
        {"queue_bytes", options->queue_bytes, 1024, UINT32_MAX, false},
        {"queue_packets", options->queue_packets, 1, 0xFFFFFF, false},
        {"queue_policy", (uint64_t)options->queue_policy, 0, TP_QUEUE_REFUSE, false},
        {"memory_limit", options->memory_limit, (uint64_t)1 << 20, TP__MEMORY_LIMIT_MAX, true},
        {"reserve_bytes", options->reserve_bytes, 0, (uint64_t)1 << 30, true},
        {"idle_timeout_ms", options->idle_timeout_ms, 100, 86400000, true},
        {"ping_interval_ms", options->ping_interval_ms, 50, 86400000, true},
        {"connect_timeout_ms", options->connect_timeout_ms, 100, 600000, false},
        {"drain_timeout_ms", options->drain_timeout_ms, 0, 600000, true},
        {"access.allow_count", options->access.allow_count, 0, TP_ACCESS_MAX_NETWORKS, true},
        {"access.deny_count", options->access.deny_count, 0, TP_ACCESS_MAX_NETWORKS, true},
    };
    for (size_t i = 0; i < TP_COUNT_OF(ranges); i++) {
        if (!option_in_range(&ranges[i])) {
            TP_LOG(TP_LOG_ERROR, "server options: %s is %llu: expected %llu to %llu",
                ranges[i].option, (unsigned long long)ranges[i].value,
                (unsigned long long)ranges[i].min, (unsigned long long)ranges[i].max);
            return TP_ERR_INVALID;
        }
    }
    const tp_access *access = &options->access;
    if (!server_options_fit(options) ||
        !networks_are_whole("access.allow", access->allow, access->allow_count) ||
        !networks_are_whole("access.deny", access->deny, access->deny_count)) {
        return TP_ERR_INVALID;
    }
    if (options->workers == 0) {
        unsigned processors = tp_processor_count();
        options->workers = processors < TP_PORT_MAX_WORKERS ? processors : TP_PORT_MAX_WORKERS;
    }
    return TP_OK;
}
