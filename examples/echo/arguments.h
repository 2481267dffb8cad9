/*
 * The command line of tp-echo.
 */
#ifndef TWINPORT_EXAMPLES_ECHO_ARGUMENTS_H
#define TWINPORT_EXAMPLES_ECHO_ARGUMENTS_H

#include <stdbool.h>

#include "twinport/wanserver.h"

typedef struct echo_arguments {
    bool wan;
    tp_wanserver_options options; /* on the LAN, options.server alone; points into this struct */
    uint8_t key[TP_KEY_SIZE];
    tp_token_key ring[TP_TOKEN_KEYS_MAX];
} echo_arguments;

/* False: it has been said what is wrong. `arguments` holds keys: wipe it. */
bool read_arguments(int count, char **words, echo_arguments *arguments);

#endif
