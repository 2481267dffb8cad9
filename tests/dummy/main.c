/*
 * tp-dummy: the load client. Each network is a subcommand with its own options.
 */
#include <stdio.h>
#include <string.h>

#include "dummy.h"

static const struct {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv); /* the arguments after the name */
} commands[] = {
    {"lan", "load a LAN server; see `tp-dummy lan --help`", lan_main},
    {"wan", "load a WAN server; see `tp-dummy wan --help`", wan_main},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < TP_COUNT_OF(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 2, argv + 2);
        }
    }
    bool asked = argc > 1 && strcmp(argv[1], "--help") == 0;
    FILE *to = asked ? stdout : stderr;
    fprintf(to, "tp-dummy COMMAND [options]\n\n");
    for (size_t i = 0; i < TP_COUNT_OF(commands); i++) {
        fprintf(to, "  %-6s %s\n", commands[i].name, commands[i].help);
    }
    return asked ? 0 : 2;
}
