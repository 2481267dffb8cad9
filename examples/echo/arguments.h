/*
 * The command line of tp-echo.
 */
#ifndef TWINPORT_EXAMPLES_ECHO_ARGUMENTS_H
#define TWINPORT_EXAMPLES_ECHO_ARGUMENTS_H

#include <stdbool.h>

#include "twinport/wanserver.h"

typedef struct echo_arguments {
    bool wan;
    tp_wanserver_options options; /* LAN: only options.server; points into this struct */
    uint8_t key[TP_KEY_SIZE];
    tp_token_key ring[TP_TOKEN_KEYS_MAX];
} echo_arguments;

/* Reads the command line. False: the error has been printed. `arguments` has keys in it: wipe
 * it. */
bool read_arguments(int count, char **words, echo_arguments *arguments);

#endif
