/*
 * `tp-dummy lan`: a run against a LAN server, and behind every hostile one an ordinary client,
 * which must still be served. Main thread.
 */
#include <stdio.h>
#include <string.h>

#include "dummy.h"
#include "os/process.h"

static void judge_by_an_ordinary_client(const lan_options *options, counts *total) {
    static counts ordinary;
    lan_options one = *options;
    one.mode = &mode_echo;
    one.connections = 1;
    one.threads = 1;
    one.window = 1;
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

int lan_main(int argc, char **argv) {
    static counts total;
    lan_options options;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            lan_usage();
            return 0;
        }
    }
    if (!lan_options_read(argc, argv, &options)) {
        return 2;
    }
    (void)tp_process_raise_descriptor_limit();
    tp_err error = tp_process_catch_stop();
    if (error != TP_OK) {
        fprintf(stderr, "tp-dummy: signals: %s\n", error_name(error));
        return 1;
    }
    double seconds = load_run(&options, &total);
    bool has_time = !tp_process_wait_stop(0); /* the ordinary client would not have any */
    if (options.mode->hostile && has_time) {
        judge_by_an_ordinary_client(&options, &total);
    }
    if (options.json) {
        report_json(&options, &total, seconds);
    } else {
        report_text(&options, &total, seconds);
    }
    return faults_sum(&total) > 0 ? 1 : 0;
}
