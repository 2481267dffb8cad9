/*
 * The command line of tp-echo. Main thread.
 */
#include "arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../keys.h"
#include "twinport/lanserver.h"

#define MANY 16384u /* sessions; with --limits off also max_pending and handshake_queue */

static bool usage(void) {
    fputs(
        "usage: tp-echo lan --port N [options]\n"
        "       tp-echo wan --port N --auth open --key FILE [options]\n"
        "       tp-echo wan --port N --auth token --key FILE --key-ring FILE [options]\n"
        "\n"
        "  --workers N              threads, 1 to 64; default: one per processor\n"
        "  --sessions N             maximum number of sessions, default 16384\n"
        "  --io auto|epoll|iocp     completion port, default auto\n"
        "on the WAN:\n"
        "  --key FILE               private key, written by: wanserver --genkey FILE\n"
        "  --key-ring FILE          keys of the tokens: lines with an id and 64 hex digits\n"
        "  --limits off|on          off (default): no limit on connections and messages, for load\n"
        "                           tests from one address; on: the limits of a server on the\n"
        "                           Internet\n"
        "  --pending N              maximum number of connections whose handshake is not over\n"
        "  --handshake-timeout MS   time for a handshake, default 10000\n",
        stderr);
    return false;
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

/* For load tests from one address: without the limits that protect a server from one address or one
 * player. */
static void switch_limits_off(tp_wanserver_options *options) {
    options->accept_rate = 0;
    options->connections_per_address = 0;
    options->message_rate = 0;
    options->byte_rate = 0;
    options->max_pending = MANY;
    options->handshake_queue = MANY;
}

static bool read_auth(const char *value, tp_auth *auth) {
    *auth = strcmp(value, "open") == 0 ? TP_AUTH_OPEN : TP_AUTH_TOKEN;
    return *auth == TP_AUTH_OPEN || strcmp(value, "token") == 0;
}

static bool read_wan_option(const char *name, const char *value, echo_arguments *a) {
    tp_wanserver_options *options = &a->options;
    if (strcmp(name, "--auth") == 0) {
        return read_auth(value, &options->auth);
    }
    if (strcmp(name, "--key") == 0) {
        options->private_key = a->key;
        return read_key(value, a->key);
    }
    if (strcmp(name, "--key-ring") == 0) {
        options->token_keys = a->ring;
        options->token_key_count = read_key_ring(value, a->ring, TP_TOKEN_KEYS_MAX);
        return options->token_key_count > 0;
    }
    if (strcmp(name, "--limits") == 0) { /* applied before all others: wants_limits() */
        return strcmp(value, "on") == 0 || strcmp(value, "off") == 0;
    }
    if (strcmp(name, "--pending") == 0) {
        return read_number(value, 65536, &options->max_pending);
    }
    if (strcmp(name, "--handshake-timeout") == 0) {
        return read_number(value, 600000, &options->handshake_timeout_ms);
    }
    return read_option(name, value, &options->server);
}

static bool wants_limits(int count, char **words) {
    for (int i = 2; i + 1 < count; i += 2) {
        if (strcmp(words[i], "--limits") == 0) {
            return strcmp(words[i + 1], "on") == 0;
        }
    }
    return false;
}

static void set_defaults(echo_arguments *a, bool limits) {
    if (a->wan) {
        tp_wanserver_defaults(&a->options);
        if (!limits) {
            switch_limits_off(&a->options);
        }
    } else {
        tp_lanserver_defaults(&a->options.server);
    }
    a->options.server.name = "echo";
    a->options.server.max_sessions = MANY;
    tp_address_parse("127.0.0.1", &a->options.server.address);
}

bool read_arguments(int count, char **words, echo_arguments *a) {
    memset(a, 0, sizeof *a);
    if (count < 2 || count % 2 != 0) {
        return usage();
    }
    a->wan = strcmp(words[1], "wan") == 0;
    if (!a->wan && strcmp(words[1], "lan") != 0) {
        return usage();
    }
    set_defaults(a, wants_limits(count, words));
    for (int i = 2; i + 1 < count; i += 2) {
        bool good = a->wan ? read_wan_option(words[i], words[i + 1], a)
                           : read_option(words[i], words[i + 1], &a->options.server);
        if (!good) {
            fprintf(stderr, "tp-echo: wrong option: %s %s\n\n", words[i], words[i + 1]);
            return usage();
        }
    }
    if (a->wan && (a->options.private_key == NULL ||
                      (a->options.auth == TP_AUTH_TOKEN && a->options.token_key_count == 0))) {
        fputs("tp-echo: --key or --key-ring is missing\n\n", stderr);
        return usage();
    }
    return true;
}
