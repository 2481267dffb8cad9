/*
 * The settings that both programs share: their conditions, and the options that they become. One
 * thread, at start; no state.
 */
#include "core/config/server_settings.h"

#include <assert.h>
#include <string.h>

#include "core/config/config.h"
#include "os/port.h"
#include "proto/frame.h"

const char *const tp__io_names[] = {"auto", "epoll", "iocp", NULL};
const char *const tp__priority_names[] = {"low", "normal", "high", "idle", NULL};
const char *const tp__log_level_names[] = {"debug", "info", "warning", "error", "off", NULL};

/* ---- conditions between settings ------------------------------------------------------------- */

static void check_sizes(const tp__relations *all, const tp__server_settings *settings) {
    tp__relation_must(all, settings->max_frame + TP_FRAME_HEADER <= settings->queue_bytes,
        "max_frame", "queue_bytes",
        "max_frame plus %u bytes of header to fit into queue_bytes: otherwise one message of that "
        "size fills the queue",
        TP_FRAME_HEADER);
    tp__relation_must(all,
        settings->running == 0 || settings->workers == 0 || settings->running <= settings->workers,
        "running", "workers", "running to be at most workers, or 0 for all");
}

static void check_memory(const tp__relations *all, const tp__server_settings *settings) {
    uint64_t limit = settings->memory_limit;
    tp__relation_must(all, limit == 0 || limit >= (uint64_t)1 << 20, "memory_limit", NULL,
        "at least 1m, or 0 for no limit");
    tp__relation_must(all, limit == 0 || limit >= settings->reserve, "memory_limit", "reserve",
        "not less than reserve, which is allocated at start, or 0 for no limit");
    tp__relation_must(all, limit == 0 || limit >= settings->queue_bytes, "memory_limit",
        "queue_bytes", "not less than queue_bytes, which one session may use, or 0 for no limit");
}

#define LEAST_TIME_MS 100u

static void check_silence(const tp__relations *all, const tp__server_settings *settings) {
    uint64_t idle = settings->idle_timeout;
    uint64_t ping = settings->ping_interval;
    tp__relation_must(all, idle == 0 || idle >= LEAST_TIME_MS, "idle_timeout", NULL,
        "at least %ums, or 0 for never", LEAST_TIME_MS);
    tp__relation_must(all, ping == 0 || ping >= LEAST_TIME_MS, "ping_interval", NULL,
        "at least %ums, or 0 for never", LEAST_TIME_MS);
    tp__relation_must(all, idle == 0 || ping < idle, "ping_interval", "idle_timeout",
        "ping_interval to be less than idle_timeout, or 0 for never: otherwise a silent session is "
        "ended before PING is sent");
}

/* ---- conditions of this system --------------------------------------------------------------- */

static bool is_here(const char *io) {
    const char *const *backends = tp_port_backends();
    bool here = strcmp(io, "auto") == 0;
    for (size_t i = 0; !here && backends[i] != NULL; i++) {
        here = strcmp(io, backends[i]) == 0;
    }
    return here;
}

/* With io = auto the settings of the other system's back end give no warning, so that one file can
 * be used on both systems. */
static void check_io(const tp__relations *all, const tp__server_settings *settings) {
    const char *io = tp__io_names[settings->io];
    bool of_iocp = strcmp(io, "auto") == 0 || strcmp(io, "iocp") == 0;
    tp__relation_must(
        all, is_here(io), "io", NULL, "auto, or %s for this system", tp_port_backends()[0]);
    tp__relation_should(all, of_iocp || settings->running == 0, "running", "io",
        "running only with io = iocp or auto: it has no effect");
    tp__relation_should(all, of_iocp || !settings->send_buffer_zero, "send_buffer_zero", "io",
        "send_buffer_zero only with io = iocp or auto: it has no effect");
    tp__relation_should(all, of_iocp || !settings->post_receive_buffers, "post_receive_buffers",
        "io", "post_receive_buffers only with io = iocp or auto: it has no effect");
}

/* ---- access ---------------------------------------------------------------------------------- */

/* True if `outer` contains every address of `inner`. */
static bool covers(const tp_network *outer, const tp_network *inner) {
    tp_address first = {.port = 0};
    memcpy(first.ip, inner->ip, sizeof first.ip);
    return outer->bits <= inner->bits && tp_network_contains(outer, &first);
}

static bool is_denied(const tp__networks *deny, const tp_network *network) {
    bool denied = false;
    for (size_t i = 0; !denied && i < deny->count; i++) {
        denied = covers(&deny->networks[i], network);
    }
    return denied;
}

static void check_access(const tp__relations *all, const tp__server_settings *settings) {
    bool admits = false;
    for (size_t i = 0; !admits && i < settings->allow.count; i++) {
        admits = !is_denied(&settings->deny, &settings->allow.networks[i]);
    }
    tp__relation_must(all, admits, "allow", "deny",
        "deny to leave something of allow: otherwise no address can connect");
}

/* ---- files ----------------------------------------------------------------------------------- */

void tp__server_settings_check_log(const tp__relations *all, const tp__server_settings *settings,
    const char *other, const char *path) {
    bool same = settings->log_file[0] != '\0' && strcmp(settings->log_file, path) == 0;
    tp__relation_must(all, !same, "log_file", other, "the log to have a file of its own");
}

static void check_server(const tp__relations *all) {
    const tp__server_settings *settings = all->target;
    check_sizes(all, settings);
    check_memory(all, settings);
    check_silence(all, settings);
    check_io(all, settings);
    check_access(all, settings);
    tp__server_settings_check_log(all, settings, NULL, all->path);
}

tp_err tp__server_settings_load(const tp__setting_table *table,
    void (*check)(const tp__relations *all), const char *path, void *settings, size_t size,
    char *report, size_t report_size) {
    assert(size >= sizeof(tp__server_settings));
    memset(settings, 0, size);
    tp_err error =
        tp__config_load(table->entries, table->count, path, settings, report, report_size);
    if (error) {
        return error;
    }
    tp__report wrong = tp__report_begin(report, report_size);
    const tp__relations all = {table->entries, table->count, settings, path, &wrong};
    check_server(&all);
    check(&all);
    return tp__report_end(&wrong);
}

/* ---- options --------------------------------------------------------------------------------- */

bool tp__server_settings_low_latency(const tp__server_settings *settings) {
    return settings->priority == TP_PRIORITY_NORMAL || settings->priority == TP_PRIORITY_HIGH;
}

void tp__server_settings_apply(const tp__server_settings *settings, tp_server_options *options) {
    options->address = settings->listen;
    options->access.allow = settings->allow.networks;
    options->access.allow_count = settings->allow.count;
    options->access.deny = settings->deny.networks;
    options->access.deny_count = settings->deny.count;
    options->backlog = (unsigned)settings->backlog;
    options->io = tp__io_names[settings->io];
    options->workers = (unsigned)settings->workers;
    options->running = (unsigned)settings->running;
    options->low_latency = tp__server_settings_low_latency(settings);
    options->nodelay = !settings->nagle;
    options->send_buffer_zero = settings->send_buffer_zero;
    options->post_receive_buffers = settings->post_receive_buffers;
    options->receive_buffer = (size_t)settings->receive_buffer;
    options->reserve_bytes = (size_t)settings->reserve;
    options->memory_limit = settings->memory_limit;
    options->reserve_descriptors = (unsigned)settings->reserve_descriptors;
    options->max_frame = (size_t)settings->max_frame;
    options->queue_bytes = (size_t)settings->queue_bytes;
    options->queue_packets = (unsigned)settings->queue_packets;
    options->idle_timeout_ms = (unsigned)settings->idle_timeout;
    options->ping_interval_ms = (unsigned)settings->ping_interval;
    options->drain_timeout_ms = (unsigned)settings->drain_timeout;
}

tp_log_options tp__server_settings_log(const tp__server_settings *settings) {
    const char *file = settings->log_file;
    tp_log_options options = {.size = sizeof options,
        .level = (tp_log_level)settings->log_level,
        .file = file[0] ? file : NULL};
    return options;
}
