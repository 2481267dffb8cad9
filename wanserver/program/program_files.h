/*
 * The files that the settings name: the private key, the key ring, the bans. Read at start; ring
 * and bans again while it runs, when the process is asked to. The main thread's.
 */
#ifndef TWINPORT_WANSERVER_PROGRAM_PROGRAM_FILES_H
#define TWINPORT_WANSERVER_PROGRAM_PROGRAM_FILES_H

#include "wanserver/files/ban_list.h"
#include "wanserver/files/key_ring_file.h"
#include "wanserver/program/wan_settings.h"

typedef struct tp__files {
    uint8_t private_key[TP_KEY_SIZE]; /* secret, like the ring */
    tp__key_ring ring;                /* empty with auth = open */
    size_t keys;                      /* in use */
    tp__ban_list bans;                /* as they were read last */
    size_t bans_in_force;             /* those of them that were not over */
    int64_t clock_ahead_ms;           /* then: the wall clock less the steady one */
} tp__files;

/* Reads them; warns if others can read the secret ones, and of what is in them twice. Their errors,
 * each with a report; then nothing secret is left. */
tp_err tp__files_load(const tp__settings *settings, tp__files *files, char *report, size_t room);

/* The secrets into the options, which point there. */
void tp__files_apply(const tp__files *files, tp_wanserver_options *options);

/* Once the options have been copied. */
void tp__files_wipe_secrets(tp__files *files);

/* Has the server ban what is listed and not over, and nobody else. */
void tp__files_ban(tp__files *files, tp_server *server);

/* The same if the wall clock was set since: for the server, bans run out by a clock that nobody
 * sets. To be called now and then. */
#define TP__FILES_CLOCK_MS 1000
void tp__files_follow_clock(tp__files *files, tp_server *server);

/* Reads ring and bans again and gives them to the server. What cannot be read, or has a line that
 * is wrong, stays as it was; the log says so, and how many there are and were. */
void tp__files_reload(const tp__settings *settings, tp__files *files, tp_server *server);

#endif
