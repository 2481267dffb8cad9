/*
 * Reads and reloads private key, key ring and ban list. Main thread only. The buffers for ban lists
 * are large, so they are static.
 */
#include "wanserver/program/program_files.h"

#include <assert.h>
#include <string.h>

#include "core/config/config.h"
#include "os/clock.h"
#include "os/file.h"
#include "wanserver/files/key_file.h"

static void warn_if_shared(const char *path) {
    if (tp_file_is_shared(path)) {
        TP_LOG(TP_LOG_WARNING,
            "%s: readable by others than its owner: it should be secret (chmod 600)", path);
    }
}

/* Logs each line of a report as a line of its own. */
static void log_lines(tp_log_level level, const char *report) {
    while (*report != '\0') {
        size_t length = strcspn(report, "\n");
        TP_LOG(level, "%.*s", (int)length, report);
        report += length + (report[length] == '\n');
    }
}

static tp_err files_load_ring(
    const tp__settings *settings, tp__key_ring *ring, char *report, size_t report_size) {
    ring->count = 0;
    if (settings->auth == TP_AUTH_OPEN) {
        return TP_OK;
    }
    warn_if_shared(settings->token_keys);
    tp_err error = tp__key_ring_load(settings->token_keys, ring, report, report_size);
    if (!error) {
        log_lines(TP_LOG_WARNING, report);
    }
    return error;
}

static tp_err files_load_bans(
    const tp__settings *settings, tp__ban_list *bans, char *report, size_t report_size) {
    bans->count = 0;
    if (settings->bans[0] == '\0') {
        return TP_OK;
    }
    tp_err error = tp__ban_list_load(settings->bans, bans, report, report_size);
    if (!error) {
        log_lines(TP_LOG_WARNING, report);
    }
    return error;
}

tp_err tp__files_load(
    const tp__settings *settings, tp__files *files, char *report, size_t report_size) {
    warn_if_shared(settings->key_file);
    tp_err error = tp__key_file_load(settings->key_file, files->private_key, report, report_size);
    error = error ? error : files_load_ring(settings, &files->ring, report, report_size);
    error = error ? error : files_load_bans(settings, &files->bans, report, report_size);
    if (error) {
        tp__files_wipe_secrets(files);
    }
    files->keys = files->ring.count;
    files->bans_in_force = 0;
    return error;
}

void tp__files_apply(const tp__files *files, tp_wanserver_options *options) {
    options->private_key = files->private_key;
    options->token_keys = files->ring.keys;
    options->token_key_count = files->ring.count;
}

void tp__files_wipe_secrets(tp__files *files) {
    tp_secure_wipe(files->private_key, sizeof files->private_key);
    tp__key_ring_wipe(&files->ring);
}

/* ---- bans ------------------------------------------------------------------------------------ */

/* A longer time is passed to the server as "for ever", so that it always fits into the server's
 * milliseconds. */
#define SECONDS_MAX (UINT64_MAX / 4000)

/* A step of the clock by less than this is ignored: time synchronisation corrects it gradually. */
#define CLOCK_STEP_MS 2000

static int64_t clock_ahead_ms(void) {
    return (int64_t)(tp_clock_wall_ms() - tp_clock_ms());
}

/* Stores the bans of the list that have not expired in the server's form; returns their number. */
static size_t bans_active(const tp__ban_list *list, tp_ban *bans) {
    uint64_t now = tp_clock_wall_ms() / 1000;
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const tp__listed_ban *one = &list->bans[i];
        if (one->until != 0 && one->until <= now) {
            continue;
        }
        uint64_t seconds = one->until == 0 ? 0 : one->until - now;
        bans[count++] =
            (tp_ban){.network = one->network, .seconds = seconds <= SECONDS_MAX ? seconds : 0};
    }
    return count;
}

/* Applies the whole list, whatever the server has: the server's bans expire by the steady clock, so
 * after the wall clock was set the same list may mean another end for each ban. */
static tp_err bans_apply(tp__files *files, const tp__ban_list *list, tp_server *server) {
    static tp_ban bans[TP__BAN_LIST_MAX];
    int64_t ahead_ms = clock_ahead_ms();
    size_t count = bans_active(list, bans);
    tp_err error = tp_wanserver_set_bans(server, bans, count);
    if (error) {
        return error;
    }
    assert(count <= list->count);
    size_t before = files->bans_in_force;
    files->bans_in_force = count;
    files->clock_ahead_ms = ahead_ms;
    if (count == 0 && before > 0) {
        TP_LOG(TP_LOG_WARNING, "bans: NOBODY IS BANNED ANY MORE (before: %zu): %s", before,
            list->count > 0 ? "all listed bans have expired" : "the list is empty");
    }
    if (list->count > 0 || before > 0) {
        TP_LOG(
            TP_LOG_INFO, "bans: %zu listed, %zu in force (%zu before)", list->count, count, before);
    }
    return TP_OK;
}

void tp__files_ban(tp__files *files, tp_server *server) {
    tp_err error = bans_apply(files, &files->bans, server);
    if (error) {
        TP_LOG(TP_LOG_ERROR, "bans: cannot apply the list: %s", tp_err_text(error));
    }
}

void tp__files_follow_clock(tp__files *files, tp_server *server) {
    int64_t step_ms = clock_ahead_ms() - files->clock_ahead_ms;
    if (step_ms > -CLOCK_STEP_MS && step_ms < CLOCK_STEP_MS) {
        return;
    }
    TP_LOG(TP_LOG_WARNING, "clock set %s by %.1f s: bans are applied again",
        step_ms < 0 ? "back" : "ahead", (double)(step_ms < 0 ? -step_ms : step_ms) / 1000);
    tp__files_ban(files, server);
}

/* ---- reload ---------------------------------------------------------------------------------- */

static tp_err files_reload_ring(const tp__settings *settings, tp__files *files, tp_server *server,
    char *report, size_t report_size) {
    tp_err error = files_load_ring(settings, &files->ring, report, report_size);
    size_t count = files->ring.count;
    if (!error) {
        error = tp_wanserver_set_token_keys(server, files->ring.keys, count);
        (void)snprintf(report, report_size, "%s: %s", settings->token_keys, tp_err_text(error));
    }
    tp__key_ring_wipe(&files->ring);
    if (!error) {
        TP_LOG(TP_LOG_INFO, "token_keys: %zu in use (%zu before)", count, files->keys);
        files->keys = count;
    }
    return error;
}

static tp_err files_reload_bans(const tp__settings *settings, tp__files *files, tp_server *server,
    char *report, size_t report_size) {
    static tp__ban_list fresh;
    tp_err error = files_load_bans(settings, &fresh, report, report_size);
    if (error) {
        return error;
    }
    error = bans_apply(files, &fresh, server);
    if (error) {
        (void)snprintf(report, report_size, "%s: %s", settings->bans, tp_err_text(error));
        return error;
    }
    files->bans = fresh;
    return TP_OK;
}

static void files_log_reload(const char *what, tp_err error, const char *report) {
    if (error) {
        TP_LOG(TP_LOG_ERROR, "%s: reload failed, keeping the previous entries:", what);
        log_lines(TP_LOG_ERROR, report);
    } else {
        TP_LOG(TP_LOG_INFO, "%s: reloaded", what);
    }
}

void tp__files_reload(const tp__settings *settings, tp__files *files, tp_server *server) {
    char report[TP__CONFIG_REPORT];
    if (settings->auth == TP_AUTH_TOKEN) {
        files_log_reload("token_keys",
            files_reload_ring(settings, files, server, report, sizeof report), report);
    }
    if (settings->bans[0]) {
        files_log_reload(
            "bans", files_reload_bans(settings, files, server, report, sizeof report), report);
    }
}
