/*
 * Key, ring and bans. The main thread's; the lists of bans are large and few, so they are static.
 */
#include "wanserver/files.h"

#include "core/config.h"
#include "os/clock.h"
#include "os/file.h"
#include "wanserver/key_file.h"

static void warn_if_shared(const char *path) {
    if (tp_file_is_shared(path)) {
        TP_LOG(TP_LOG_WARNING,
            "%s: others than its owner may read it: it should be secret (chmod 600)", path);
    }
}

static tp_err load_ring(
    const tp__settings *settings, tp__key_ring *ring, char *report, size_t room) {
    ring->count = 0;
    if (settings->auth == TP_AUTH_OPEN) {
        return TP_OK;
    }
    warn_if_shared(settings->token_keys);
    return tp__key_ring_load(settings->token_keys, ring, report, room);
}

static tp_err load_bans(
    const tp__settings *settings, tp__ban_list *bans, char *report, size_t room) {
    bans->count = 0;
    return settings->bans[0] ? tp__ban_list_load(settings->bans, bans, report, room) : TP_OK;
}

tp_err tp__files_load(const tp__settings *settings, tp__files *files, char *report, size_t room) {
    warn_if_shared(settings->key_file);
    tp_err error = tp__key_file_load(settings->key_file, files->private_key, report, room);
    error = error ? error : load_ring(settings, &files->ring, report, room);
    error = error ? error : load_bans(settings, &files->bans, report, room);
    if (error) {
        tp__files_wipe_secrets(files);
    }
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

/* ---- bans ------------------------------------------------------------------------------------- */

/* A time so far away that the server does not count to it is for ever. */
#define SECONDS_MAX (UINT64_MAX / 4000)

static void ban(tp_server *server, const tp__listed_ban *one, uint64_t now) {
    if (one->until != 0 && one->until <= now) {
        return;
    }
    uint64_t seconds = one->until == 0 ? 0 : one->until - now;
    tp_err error = tp_wanserver_ban(server, &one->network, seconds <= SECONDS_MAX ? seconds : 0);
    if (error) {
        TP_LOG(TP_LOG_ERROR, "bans: line %u: %s", one->line, tp_err_text(error));
    }
}

/* Calls `each` for what `list` has and `other`, which is in order as well, does not have like that. */
static void for_each_change(const tp__ban_list *list, const tp__ban_list *other, tp_server *server,
    void (*each)(tp_server *server, const tp__listed_ban *one, uint64_t now)) {
    uint64_t now = tp_clock_wall_ms() / 1000;
    size_t o = 0;
    for (size_t i = 0; i < list->count; i++) {
        const tp__listed_ban *one = &list->bans[i];
        while (o < other->count && tp__ban_compare(&other->bans[o].network, &one->network) < 0) {
            o++;
        }
        bool there =
            o < other->count && tp__ban_compare(&other->bans[o].network, &one->network) == 0;
        if (!there || other->bans[o].until != one->until) {
            each(server, one, now);
        }
    }
}

static void lift(tp_server *server, const tp__listed_ban *one, uint64_t now) {
    (void)now;
    (void)tp_wanserver_lift_ban(server, &one->network); /* false: it has expired */
}

/* What has gone makes room first: the server keeps no more bans than a list may have. */
static void change_bans(tp_server *server, const tp__ban_list *from, const tp__ban_list *to) {
    for_each_change(from, to, server, lift);
    for_each_change(to, from, server, ban);
}

void tp__files_ban(const tp__files *files, tp_server *server) {
    static const tp__ban_list none;
    change_bans(server, &none, &files->bans);
}

/* ---- again ------------------------------------------------------------------------------------ */

static tp_err reload_ring(
    const tp__settings *settings, tp__files *files, tp_server *server, char *report, size_t room) {
    tp_err error = load_ring(settings, &files->ring, report, room);
    if (!error) {
        error = tp_wanserver_set_token_keys(server, files->ring.keys, files->ring.count);
        (void)snprintf(report, room, "%s: %s", settings->token_keys, tp_err_text(error));
    }
    tp__key_ring_wipe(&files->ring);
    return error;
}

static tp_err reload_bans(
    const tp__settings *settings, tp__files *files, tp_server *server, char *report, size_t room) {
    static tp__ban_list fresh;
    tp_err error = load_bans(settings, &fresh, report, room);
    if (!error) {
        change_bans(server, &files->bans, &fresh);
        files->bans = fresh;
    }
    return error;
}

static void say(const char *what, tp_err error, const char *report) {
    if (error) {
        TP_LOG(TP_LOG_ERROR, "%s: not read again, the old ones stay:\n%s", what, report);
    } else {
        TP_LOG(TP_LOG_INFO, "%s: read again", what);
    }
}

void tp__files_reload(const tp__settings *settings, tp__files *files, tp_server *server) {
    char report[TP__CONFIG_REPORT];
    if (settings->auth == TP_AUTH_TOKEN) {
        say("token_keys", reload_ring(settings, files, server, report, sizeof report), report);
    }
    if (settings->bans[0]) {
        say("bans", reload_bans(settings, files, server, report, sizeof report), report);
    }
}
