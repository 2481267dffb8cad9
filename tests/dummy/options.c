/*
 * Arguments of `tp-dummy lan` and `tp-dummy wan`. Main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "wire.h"

void run_usage(const wire *network) {
    bool wan = network == &wire_wan;
    printf("tp-dummy %s --connect HOST:PORT %s[options]\n"
           "\n"
           "Loads a %s server that echoes DATA frames, and judges every byte it answers.\n"
           "Exit code: 0 all answers were right, 1 something was wrong or missing, 2 wrong usage.\n"
           "Ctrl-C ends the measured time early; what is missing then is still waited for.\n"
           "\n"
           "  --connect HOST:PORT   a numeric address: 127.0.0.1:4000, [::1]:4000\n",
        network->name, wan ? "--server-key HEX " : "", wan ? "WAN" : "LAN");
    if (wan) {
        printf("  --server-key HEX      the server's public key, 64 hexadecimal digits\n"
               "  --token-file FILE     connect tokens as tp-token prints them, two lines each; "
               "every\n"
               "                        connection uses up one, and a hostile mode one more; "
               "default:\n"
               "                        none, for a server in mode open\n"
               "  --suite aes|chacha    AES-256-GCM (default) or ChaCha20-Poly1305\n");
    }
    printf(
        "  --connections N       1..100000, default 100\n"
        "  --window W            messages outstanding per connection, 1..4096, default 1\n"
        "  --size B              payload bytes of a message, 0..16777215, default 64\n"
        "  --rate R              echo: messages per second and connection, as far as the window\n"
        "                        lets it, up to 1000000; default 0: as fast as they are answered\n"
        "  --seconds S           time that is measured, default 5\n"
        "  --warmup S            time before it, default 0\n"
        "  --patience S          how long an answer may take, default 10\n"
        "  --limit B             the server's frame limit, for the garbage, default %u\n"
        "  --seed N              decides messages and chances, default 1\n"
        "  --threads N           1..64, default 1\n"
        "  --io NAME             back end of the port, default auto\n"
        "  --json                one JSON object instead of text\n"
        "  --marks               lines `measuring` and `measured` around the measured time\n"
        "  --mode MODE           default echo\n",
        (unsigned)network->limit);
    for (const mode *const *m = modes; *m != NULL; m++) {
        printf("        %-10s      %s\n", (*m)->name, (*m)->help);
    }
}

static bool read_number(
    const char *name, const char *text, uint64_t low, uint64_t high, uint64_t *value) {
    char *end = NULL;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < low || number > high) {
        fprintf(stderr, "tp-dummy: %s %s: expected a number from %llu to %llu\n", name, text,
            (unsigned long long)low, (unsigned long long)high);
        return false;
    }
    *value = number;
    return true;
}

static bool read_real(const char *name, const char *text, double high, double *value) {
    char *end = NULL;
    *value = strtod(text, &end);
    if (end == text || *end != '\0' || !(*value >= 0 && *value <= high)) {
        fprintf(stderr, "tp-dummy: %s %s: expected a number from 0 to %.0f\n", name, text, high);
        return false;
    }
    return true;
}

static bool read_seconds(const char *name, const char *text, double *value) {
    return read_real(name, text, 86400, value);
}

static bool read_mode(const char *text, const mode **value) {
    for (const mode *const *m = modes; *m != NULL; m++) {
        if (strcmp((*m)->name, text) == 0) {
            *value = *m;
            return true;
        }
    }
    fprintf(stderr, "tp-dummy: --mode %s: no such mode; --help names them\n", text);
    return false;
}

static bool read_unsigned(
    const char *name, const char *text, uint64_t low, uint64_t high, unsigned *value) {
    uint64_t number = 0;
    bool good = read_number(name, text, low, high, &number);
    *value = (unsigned)number;
    return good;
}

static bool read_suite(const char *text, tp_suite *value) {
    *value = strcmp(text, "chacha") == 0 ? TP_SUITE_CHACHA20_POLY1305 : TP_SUITE_AES_256_GCM;
    if (strcmp(text, "aes") != 0 && strcmp(text, "chacha") != 0) {
        fprintf(stderr, "tp-dummy: --suite %s: expected aes or chacha\n", text);
        return false;
    }
    return true;
}

/* *known: the option belongs to the WAN. */
static bool read_wan_value(const char *name, const char *text, run_options *o, bool *known) {
    *known = true;
    if (strcmp(name, "--server-key") == 0) {
        o->has_server_key = tp_key_parse(text, o->server_key);
        if (!o->has_server_key) {
            fprintf(stderr, "tp-dummy: --server-key: expected 64 hexadecimal digits\n");
        }
        return o->has_server_key;
    }
    if (strcmp(name, "--token-file") == 0) {
        tokens_free(o->tokens);
        o->tokens = tokens_read(text);
        return o->tokens != NULL;
    }
    if (strcmp(name, "--suite") == 0) {
        return read_suite(text, &o->suite);
    }
    *known = false;
    return true;
}

static bool read_value(const char *name, const char *text, run_options *o) {
    bool known = false;
    if (o->wire == &wire_wan) {
        bool good = read_wan_value(name, text, o, &known);
        if (known || !good) {
            return good;
        }
    }
    if (strcmp(name, "--connect") == 0) {
        o->address_text = text;
        if (!address_read(text, &o->address) || o->address.port == 0) {
            fprintf(stderr, "tp-dummy: --connect %s: expected ADDRESS:PORT, numeric\n", text);
            return false;
        }
        return true;
    }
    if (strcmp(name, "--connections") == 0) {
        return read_unsigned(name, text, 1, 100000, &o->connections);
    }
    if (strcmp(name, "--window") == 0) {
        return read_unsigned(name, text, 1, 4096, &o->window);
    }
    if (strcmp(name, "--size") == 0) {
        return read_unsigned(name, text, 0, TP_FRAME_MAX_PAYLOAD, &o->size);
    }
    if (strcmp(name, "--limit") == 0) {
        return read_unsigned(name, text, 1, TP_FRAME_MAX_PAYLOAD - 1, &o->limit);
    }
    if (strcmp(name, "--threads") == 0) {
        return read_unsigned(name, text, 1, 64, &o->threads);
    }
    if (strcmp(name, "--seed") == 0) {
        return read_number(name, text, 0, UINT64_MAX, &o->seed);
    }
    if (strcmp(name, "--seconds") == 0) {
        return read_seconds(name, text, &o->seconds);
    }
    if (strcmp(name, "--warmup") == 0) {
        return read_seconds(name, text, &o->warmup);
    }
    if (strcmp(name, "--patience") == 0) {
        return read_seconds(name, text, &o->patience);
    }
    if (strcmp(name, "--rate") == 0) {
        return read_real(name, text, 1e6, &o->rate);
    }
    if (strcmp(name, "--mode") == 0) {
        return read_mode(text, &o->mode);
    }
    if (strcmp(name, "--io") == 0) {
        o->io = text;
        return true;
    }
    fprintf(stderr, "tp-dummy: %s: no such option; --help names them\n", name);
    return false;
}

static bool read_all(int argc, char **argv, run_options *options) {
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            options->json = true;
        } else if (strcmp(argv[i], "--marks") == 0) {
            options->marks = true;
        } else if (i + 1 == argc) {
            fprintf(
                stderr, "tp-dummy: %s: a value is missing, or there is no such option\n", argv[i]);
            return false;
        } else if (!read_value(argv[i], argv[i + 1], options)) {
            return false;
        } else {
            i++;
        }
    }
    return true;
}

static bool are_complete(const run_options *o) {
    size_t needed = (size_t)o->connections + (o->mode->hostile ? 1 : 0);
    if (o->address_text == NULL) {
        fprintf(stderr, "tp-dummy: --connect HOST:PORT is missing\n");
        return false;
    }
    if (o->wire == &wire_wan && !o->has_server_key) {
        fprintf(stderr, "tp-dummy: --server-key HEX is missing\n");
        return false;
    }
    if (o->tokens != NULL && tokens_left(o->tokens) < needed) {
        fprintf(stderr, "tp-dummy: --token-file: %llu tokens, and %llu are needed\n",
            (unsigned long long)tokens_left(o->tokens), (unsigned long long)needed);
        return false;
    }
    return true;
}

bool run_options_read(int argc, char **argv, run_options *options) {
    const wire *network = options->wire;
    *options = (run_options){.wire = network,
        .mode = &mode_echo,
        .io = "auto",
        .connections = 100,
        .window = 1,
        .size = 64,
        .limit = network->limit,
        .seconds = 5,
        .patience = 10,
        .threads = 1,
        .seed = 1,
        .suite = TP_SUITE_AES_256_GCM};
    if (!read_all(argc, argv, options) || !are_complete(options)) {
        return false;
    }
    if (options->threads > options->connections) {
        options->threads = options->connections;
    }
    return true;
}
