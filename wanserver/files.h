/*
 * The files that the settings name: the private key, the key ring, the bans. Read at start; ring and bans again
 * while it runs, when the process is asked to. The main thread's.
 */
#ifndef TWINPORT_WANSERVER_FILES_H
#define TWINPORT_WANSERVER_FILES_H

#include "wanserver/ban_list.h"
#include "wanserver/key_ring.h"
#include "wanserver/settings.h"

typedef struct tp__files {
    uint8_t private_key[TP_KEY_SIZE]; /* secret, like the ring */
    tp__key_ring ring;                /* empty with auth = open */
    tp__ban_list bans;                /* those in force */
} tp__files;

/* Reads them, and warns if others can read the secret ones. Their errors, each with a report; then nothing
 * secret is left. */
tp_err tp__files_load(const tp__settings *settings, tp__files *files, char *report, size_t room);

/* The secrets into the options, which point there. */
void tp__files_apply(const tp__files *files, tp_wanserver_options *options);

/* Once the options have been copied. */
void tp__files_wipe_secrets(tp__files *files);

/* Has the server ban what is listed. */
void tp__files_ban(const tp__files *files, tp_server *server);

/* Reads ring and bans again and gives them to the server. What cannot be read stays as it was; the log says so. */
void tp__files_reload(const tp__settings *settings, tp__files *files, tp_server *server);

#endif
