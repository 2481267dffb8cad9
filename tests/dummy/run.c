/*
 * `tp-dummy lan` and `tp-dummy wan`: a run against a server, and after every hostile run an
 * ordinary client, which must still be served. Main thread.
 */
#include <stdio.h>
#include <string.h>

#include "os/process.h"
#include "wire.h"

static void run_ordinary_client(const run_options *options, counts *total) {
    static counts ordinary;
    run_options one = *options;
    one.mode = &mode_echo;
    one.connections = 1;
    one.threads = 1;
    one.window = 1;
    one.rate = 0;
    one.seconds = 0.1;
    one.warmup = 0;
    (void)load_run(&one, &ordinary);
    if (ordinary.answers == 0 && faults_sum(&ordinary) == 0) {
        ordinary.faults[FAULT_MISSING]++;
    }
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        total->faults[i] += ordinary.faults[i];
    }
}

static int run_and_report(const run_options *options) {
    static counts total;
    double seconds = load_run(options, &total);
    bool has_time = !tp_process_wait_stop(0); /* the ordinary client would have no time */
    if (options->mode->hostile && has_time) {
        run_ordinary_client(options, &total);
    }
    if (options->json) {
        report_json(options, &total, seconds);
    } else {
        report_text(options, &total, seconds);
    }
    return faults_sum(&total) > 0 ? 1 : 0;
}

static bool prepare(const run_options *options) {
    (void)tp_process_raise_descriptor_limit();
    tp_err error = tp_process_catch_stop();
    if (error != TP_OK) {
        fprintf(stderr, "tp-dummy: signals: %s\n", error_name(error));
        return false;
    }
    error = options->wire == &wire_wan ? tp_secure_init() : TP_OK;
    if (error != TP_OK) {
        fprintf(stderr, "tp-dummy: libcrypto: %s\n", error_name(error));
        return false;
    }
    return true;
}

static int run(const wire *network, int argc, char **argv) {
    run_options options = {.wire = network};
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            run_usage(network);
            return 0;
        }
    }
    int code = 2;
    if (run_options_read(argc, argv, &options)) {
        code = prepare(&options) ? run_and_report(&options) : 1;
    }
    tokens_free(options.tokens);
    return code;
}

int lan_main(int argc, char **argv) {
    return run(&wire_lan, argc, argv);
}

int wan_main(int argc, char **argv) {
    return run(&wire_wan, argc, argv);
}
