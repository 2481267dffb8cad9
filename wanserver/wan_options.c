/*
 * The options of a WAN server: defaults, and the range of each. Any thread; no state.
 */
#include <string.h>

#include "proto/frame.h"
#include "twinport/log.h"
#include "wanserver/wan.h"

void tp_wanserver_defaults(tp_wanserver_options *options) {
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;

    tp_server_options *server = &options->server;
    tp_server_defaults(server);
    server->name = "wan";
    (void)tp_address_parse("127.0.0.1:0", &server->address); /* a valid constant */
    server->max_sessions = 4096;
    server->max_frame = (size_t)64 << 10;
    server->queue_bytes = (size_t)1 << 20;
    server->queue_packets = 4096;
    server->idle_timeout_ms = 60000;
    server->ping_interval_ms = 30000;

    options->auth = TP_AUTH_TOKEN;
    options->replay_tokens = 262144;
    options->max_token_life_s = TP_TOKEN_LIFE;
    options->handshake_timeout_ms = 10000;
    options->max_pending = 1024;
    options->handshake_threads = 1;
    options->handshake_priority = TP_HANDSHAKE_IDLE;
    options->handshake_queue = 512;
    options->busy_seconds = 5;
    options->accept_rate = 20;
    options->accept_burst = 50;
    options->connections_per_address = 64;
    options->max_addresses = 65536;
    options->message_rate = 200;
    options->message_burst = 400;
    options->byte_rate = (size_t)256 << 10;
    options->byte_burst = (size_t)512 << 10;
}

typedef struct range {
    const char *option;
    uint64_t value;
    uint64_t least;
    uint64_t most;
} range;

static bool range_check(const range *r) {
    if (r->value >= r->least && r->value <= r->most) {
        return true;
    }
    TP_LOG(TP_LOG_ERROR, "wanserver options: %s is %llu: expected %llu to %llu", r->option,
        (unsigned long long)r->value, (unsigned long long)r->least, (unsigned long long)r->most);
    return false;
}

/* The range of a burst: any value is allowed if its rate is 0. */
static range burst_range(
    const char *option, uint64_t value, uint64_t least, uint64_t most, uint64_t rate) {
    return (range){option, value, rate ? least : 0, rate ? most : UINT64_MAX};
}

static bool options_error(const char *what) {
    TP_LOG(TP_LOG_ERROR, "wanserver options: %s", what);
    return false;
}

static bool options_complete(const tp_wanserver_options *options) {
    if (options->size != sizeof *options) {
        return options_error("size is not that of this version");
    }
    if (!options->server.listen) {
        return options_error("listen is not set");
    }
    if (!options->private_key) {
        return options_error("private_key is not set");
    }
    return true;
}

/* Checks that `value` of option `one` is at most `most`, which depends on option `other`. */
static bool options_check_most(
    const char *one, uint64_t value, const char *other, uint64_t other_value, uint64_t most) {
    if (value <= most) {
        return true;
    }
    TP_LOG(TP_LOG_ERROR, "wanserver options: %s is %llu and %s is %llu: expected at most %llu", one,
        (unsigned long long)value, other, (unsigned long long)other_value,
        (unsigned long long)most);
    return false;
}

/* Checks the relations between options, each of which is in its own range. */
static bool options_fit(const tp_wanserver_options *options) {
    const tp_server_options *server = &options->server;
    size_t largest = tp_record_stream_size(server->max_frame + TP_FRAME_HEADER);
    unsigned pending = tp__pending_slots(options->max_pending);
    return (options->byte_rate == 0 ||
               options_check_most("the largest message on the network, with max_frame", largest,
                   "byte_burst", options->byte_burst, options->byte_burst)) &&
           options_check_most("max_sessions", server->max_sessions, "max_pending",
               options->max_pending, TP_MAX_SESSIONS - pending);
}

tp_err tp__wan_check_options(const tp_wanserver_options *options) {
    if (!options_complete(options)) {
        return TP_ERR_INVALID;
    }
    const range ranges[] = {
        {"auth", (uint64_t)options->auth, TP_AUTH_TOKEN, TP_AUTH_OPEN},
        {"replay_tokens", options->replay_tokens, 1024, 16777216},
        {"max_token_life_s", options->max_token_life_s, 1, TP_TOKEN_LIFE_MAX},
        {"handshake_timeout_ms", options->handshake_timeout_ms, 100, 600000},
        {"max_pending", options->max_pending, 16, 65536},
        {"handshake_threads", options->handshake_threads, 1, TP__HANDSHAKE_THREADS_MAX},
        {"handshake_priority", (uint64_t)options->handshake_priority, TP_HANDSHAKE_IDLE,
            TP_HANDSHAKE_NORMAL},
        {"handshake_queue", options->handshake_queue, 1, 65536},
        {"busy_seconds", options->busy_seconds, 0, UINT16_MAX},
        {"accept_rate", options->accept_rate, 0, 1000000},
        burst_range("accept_burst", options->accept_burst, 1, 1000000, options->accept_rate),
        {"connections_per_address", options->connections_per_address, 0, 1048576},
        {"max_addresses", options->max_addresses, 1024, 16777216},
        {"message_rate", options->message_rate, 0, 10000000},
        burst_range("message_burst", options->message_burst, 1, 10000000, options->message_rate),
        {"byte_rate", options->byte_rate, 0, UINT32_MAX},
        burst_range("byte_burst", options->byte_burst, 65536, UINT32_MAX, options->byte_rate),
    };
    for (size_t i = 0; i < TP_COUNT_OF(ranges); i++) {
        if (!range_check(&ranges[i])) {
            return TP_ERR_INVALID;
        }
    }
    return options_fit(options) ? TP_OK : TP_ERR_INVALID;
}
