/*
 * bench-backend-echo: a service on twinport/backend.h that sends each player's messages back.
 *
 *     bench-backend-echo --bus 127.0.0.1:PORT --service NAME
 *
 * Prints `up` when it is on the bus, and serves until it is asked to stop.
 *
 * Threads: the client's only worker runs the handlers, the main thread waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "twinport/backend.h"
#include "twinport/process.h"

enum { players_most = 16384 };

static void on_up(tp_backend *backend, tp_peer_id self) {
    (void)backend;
    (void)self;
    puts("up");
    fflush(stdout);
}

static void on_player_message(tp_backend *backend, const tp_player *player, tp_packet *packet) {
    tp_err error = tp_backend_send(backend, player, packet);
    if (error != TP_OK && error != TP_ERR_NO_SESSION) {
        fprintf(
            /* The load then misses an answer. */
            stderr, "bench-backend-echo: %s\n", tp_err_text(error));
    }
}

static bool read_arguments(int count, char **arguments, tp_backend_options *options) {
    bool bus = false;
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(arguments[i], "--bus") == 0) {
            bus = tp_address_parse(arguments[i + 1], &options->bus.address) == TP_OK;
        } else if (strcmp(arguments[i], "--service") == 0) {
            options->bus.service = arguments[i + 1];
        } else {
            return false;
        }
    }
    return count % 2 == 1 && bus && options->bus.service != NULL;
}

int main(int count, char **arguments) {
    const tp_backend_handlers handlers = {
        .size = sizeof handlers, .on_up = on_up, .on_player_message = on_player_message};
    tp_backend_options options;
    tp_backend *backend = NULL;
    tp_backend_defaults(&options);
    options.max_players = players_most;
    if (!read_arguments(count, arguments, &options)) {
        fprintf(stderr, "usage: %s --bus 127.0.0.1:PORT --service NAME\n", arguments[0]);
        return 2;
    }
    tp_err error = tp_process_catch_stop();
    if (error == TP_OK) {
        error = tp_backend_create(&options, &handlers, &backend);
    }
    if (error == TP_OK) {
        error = tp_backend_start(backend);
    }
    if (error == TP_OK) {
        tp_process_wait_stop(-1);
        tp_backend_stop(backend);
        error = tp_backend_wait(backend, -1);
    }
    tp_backend_destroy(backend);
    if (error != TP_OK) {
        fprintf(stderr, "bench-backend-echo: %s\n", tp_err_text(error));
    }
    return error != TP_OK;
}
