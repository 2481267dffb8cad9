/*
 * The files that the settings name: the private key, the key ring, the ban list. All are read at
 * start; key ring and ban list are read again while the program runs, when a reload is requested.
 * Used by the main thread.
 */
#ifndef TWINPORT_WANSERVER_PROGRAM_PROGRAM_FILES_H
#define TWINPORT_WANSERVER_PROGRAM_PROGRAM_FILES_H

#include "wanserver/files/ban_list.h"
#include "wanserver/files/key_ring_file.h"
#include "wanserver/program/wan_settings.h"

typedef struct tp__files {
    uint8_t private_key[TP_KEY_SIZE]; /* secret, like the key ring */
    tp__key_ring ring;                /* empty if auth = open */
    size_t keys;                      /* number of token keys in use */
    tp__ban_list bans;                /* as it was read last */
    size_t bans_in_force;             /* how many of its bans had not expired when they were
                                         applied */
    int64_t clock_ahead_ms;           /* at that time: the wall clock minus the steady clock */
} tp__files;

/* Reads the files. Logs a warning if users other than the owner can read a secret one, and for what
 * is given twice in them. Errors are those of the files, each with a report; then no secret is left
 * in `files`. */
tp_err tp__files_load(
    const tp__settings *settings, tp__files *files, char *report, size_t report_size);

/* Sets the secrets in the options, which point into `files`. */
void tp__files_apply(const tp__files *files, tp_wanserver_options *options);

/* Wipes the secrets; call it when the server has copied the options. */
void tp__files_wipe_secrets(tp__files *files);

/* Makes the bans of the list that have not expired the server's only bans. Logs the result. */
void tp__files_ban(tp__files *files, tp_server *server);

/* Does the same if the wall clock has been set since: the server's bans expire by a clock that is
 * never set. To be called every TP__FILES_CLOCK_MS. */
#define TP__FILES_CLOCK_MS 1000
void tp__files_follow_clock(tp__files *files, tp_server *server);

/* Reads key ring and ban list again and passes them to the server. If a file cannot be read, or one
 * of its lines is wrong, the previous contents stay in use. The log has the result, with the number
 * of entries before and now. */
void tp__files_reload(const tp__settings *settings, tp__files *files, tp_server *server);

#endif
