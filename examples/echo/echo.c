/*
 * tp-echo: sends every message back to the session that it came from.
 *
 *     tp-echo lan --port N [--workers N] [--io auto|epoll|iocp]
 *
 * The smallest complete server: one handler, one call. Listens on 127.0.0.1; port 0 asks the system
 * for a free one, and the first line of output says which.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "twinport/lanserver.h"
#include "twinport/process.h"

static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    tp_server_send(server, session, packet);
}

static int usage(void) {
    fputs("usage: tp-echo lan --port N [--workers N] [--sessions N] [--io auto|epoll|iocp]\n",
        stderr);
    return 2;
}

static bool read_number(const char *text, unsigned most, unsigned *number) {
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    *number = (unsigned)value;
    return end != text && *end == '\0' && value <= most;
}

static bool read_option(const char *name, const char *value, tp_server_options *options) {
    unsigned port;
    if (strcmp(name, "--port") == 0 && read_number(value, 65535, &port)) {
        options->address.port = (uint16_t)port;
        return true;
    }
    if (strcmp(name, "--workers") == 0) {
        return read_number(value, 64, &options->workers);
    }
    if (strcmp(name, "--sessions") == 0) {
        return read_number(value, TP_MAX_SESSIONS, &options->max_sessions);
    }
    if (strcmp(name, "--io") == 0) {
        options->io = value;
        return true;
    }
    return false;
}

static bool read_arguments(int count, char **arguments, tp_server_options *options) {
    if (count < 2 || strcmp(arguments[1], "lan") != 0 || count % 2 != 0) {
        return false;
    }
    for (int i = 2; i + 1 < count; i += 2) {
        if (!read_option(arguments[i], arguments[i + 1], options)) {
            return false;
        }
    }
    return true;
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

int main(int count, char **arguments) {
    tp_server_options options;
    tp_lanserver_defaults(&options);
    options.name = "echo";
    options.max_sessions = 16384;
    tp_address_parse("127.0.0.1", &options.address);
    if (!read_arguments(count, arguments, &options)) {
        return usage();
    }

    const tp_handlers handlers = {.size = sizeof handlers, .on_recv = on_recv};
    tp_server *server = NULL;
    tp_err error = tp_process_catch_stop();
    tp_process_raise_descriptor_limit();
    if (!error) {
        error = tp_lanserver_create(&options, &handlers, &server);
    }
    if (!error) {
        error = serve(server);
    }
    tp_server_destroy(server);
    if (error) {
        fprintf(stderr, "tp-echo: %s\n", tp_err_text(error));
    }
    return error ? 1 : 0;
}
