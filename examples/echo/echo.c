/*
 * tp-echo: sends each message back to the session that it came from, on the LAN or on the WAN.
 *
 *     tp-echo lan --port N
 *     tp-echo wan --port N --auth open --key FILE
 *
 * The smallest complete server: one handler, one call. It listens on 127.0.0.1; with port 0 the
 * system chooses a free port, and the first line of output reports it. On the WAN the last line of
 * output has the statistics.
 */
#include <stdio.h>

#include "arguments.h"
#include "twinport/lanserver.h"
#include "twinport/process.h"

static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    tp_server_send(server, session, packet);
}

static void print_statistics(const tp_server *server) {
    tp_wanserver_stats stats = {.size = sizeof stats};
    tp_wanserver_get_stats(server, &stats);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"established", stats.established},
        {"diffie_hellman", stats.diffie_hellman},
        {"overdue", stats.overdue},
        {"limited", stats.limited},
        {"evicted", stats.evicted},
        {"crowded", stats.crowded},
        {"late", stats.late},
        {"gone", stats.gone},
        {"foreign", stats.foreign},
        {"other_version", stats.other_version},
        {"expired", stats.expired},
        {"long_lived", stats.long_lived},
        {"unknown_key", stats.unknown_key},
        {"forged", stats.forged},
        {"replayed", stats.replayed},
        {"busy", stats.busy},
        {"not_authentic", stats.not_authentic},
        {"not_ready", stats.not_ready},
        {"tampered", stats.tampered},
        {"rate_limited", stats.rate_limited},
    };
    printf("statistics:");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        printf(" %s=%llu", numbers[i].name, (unsigned long long)numbers[i].value);
    }
    printf("\n");
}

/* Serves until the process is asked to stop. */
static tp_err serve(tp_server *server) {
    tp_err error = tp_server_start(server);
    if (error) {
        return error;
    }
    char text[TP_ADDRESS_TEXT];
    tp_address address = tp_server_address(server);
    printf("listening on %s\n", tp_address_format(&address, text));
    fflush(stdout);
    tp_process_wait_stop(-1);
    tp_server_stop(server);
    return tp_server_wait(server, -1);
}

int main(int count, char **words) {
    static echo_arguments arguments;
    if (!read_arguments(count, words, &arguments)) {
        return 2;
    }

    const bool wan = arguments.wan;
    const tp_handlers handlers = {.size = sizeof handlers, .on_recv = on_recv};
    tp_server *server = NULL;
    tp_err error = tp_process_catch_stop();
    tp_process_raise_descriptor_limit();
    if (!error) {
        error = wan ? tp_wanserver_create(&arguments.options, &handlers, &server)
                    : tp_lanserver_create(&arguments.options.server, &handlers, &server);
    }
    tp_secure_wipe(&arguments, sizeof arguments);
    if (!error) {
        error = serve(server);
    }
    if (!error && wan) {
        print_statistics(server);
    }
    tp_server_destroy(server);
    if (error) {
        fprintf(stderr, "tp-echo: %s\n", tp_err_text(error));
    }
    return error ? 1 : 0;
}
