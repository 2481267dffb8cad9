/*
 * Arguments of `tp-dummy lan`. Main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dummy.h"

void lan_usage(void) {
    printf("tp-dummy lan --connect HOST:PORT [options]\n"
           "\n"
           "Loads a LAN server that echoes DATA frames, and judges every byte it answers.\n"
           "Exit code: 0 all answers were right, 1 something was wrong or missing, 2 wrong usage.\n"
           "Ctrl-C ends the measured time early; what is missing then is still waited for.\n"
           "\n"
           "  --connect HOST:PORT   a numeric address: 127.0.0.1:4000, [::1]:4000\n"
           "  --connections N       1..100000, default 100\n"
           "  --window W            messages outstanding per connection, 1..4096, default 1\n"
           "  --size B              payload bytes of a message, 0..16777215, default 64\n"
           "  --seconds S           time that is measured, default 5\n"
           "  --warmup S            time before it, default 0\n"
           "  --patience S          how long an answer may take, default 10\n"
           "  --limit B             the server's frame limit, for the garbage, default 1048576\n"
           "  --seed N              decides messages and chances, default 1\n"
           "  --threads N           1..64, default 1\n"
           "  --io NAME             back end of the port, default auto\n"
           "  --json                one JSON object instead of text\n"
           "  --marks               lines `measuring` and `measured` around the measured time\n"
           "  --mode MODE           default echo\n");
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

static bool read_seconds(const char *name, const char *text, double *value) {
    char *end = NULL;
    *value = strtod(text, &end);
    if (end == text || *end != '\0' || !(*value >= 0 && *value <= 86400)) {
        fprintf(stderr, "tp-dummy: %s %s: expected seconds from 0 to 86400\n", name, text);
        return false;
    }
    return true;
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

static bool read_value(const char *name, const char *text, lan_options *o) {
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

bool lan_options_read(int argc, char **argv, lan_options *options) {
    *options = (lan_options){.mode = &mode_echo,
        .io = "auto",
        .connections = 100,
        .window = 1,
        .size = 64,
        .limit = TP_FRAME_DEFAULT_LIMIT,
        .seconds = 5,
        .patience = 10,
        .threads = 1,
        .seed = 1};
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
    if (options->address_text == NULL) {
        fprintf(stderr, "tp-dummy: --connect HOST:PORT is missing\n");
        return false;
    }
    if (options->threads > options->connections) {
        options->threads = options->connections;
    }
    return true;
}
