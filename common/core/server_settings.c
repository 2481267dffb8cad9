/*
 * See server_settings.h. Holds nothing.
 */
#include "core/server_settings.h"

const char *const tp__io_names[] = {"auto", "epoll", "iocp", NULL};
const char *const tp__priority_names[] = {"low", "normal", "high", NULL};
const char *const tp__log_level_names[] = {"debug", "info", "warning", "error", "off", NULL};

void tp__server_settings_check(
    const tp__server_settings *settings, const char *path, tp__report *wrong) {
    uint64_t idle = settings->idle_timeout;
    if (idle > 0 && settings->ping_interval >= idle) { /* nobody would be asked first */
        tp__report_error(
            wrong, "%s: ping_interval: expected less than idle_timeout, or 0 for never", path);
    }
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
    options->nodelay = !settings->nagle;
    options->send_buffer_zero = settings->send_buffer_zero;
    options->post_receive_buffers = settings->post_receive_buffers;
    options->receive_buffer = (size_t)settings->receive_buffer;
    options->reserve_bytes = (size_t)settings->reserve;
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
