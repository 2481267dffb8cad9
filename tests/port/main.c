/*
 * port-conformance: checks every back end of this build against common/os/port.h.
 *
 *     port-conformance [--backend NAME] [--posted yes|no] [--theme NAME] [--list] [CASE...]
 *
 * Without arguments: every case with every variant of every back end. Exit code: 0 all passed,
 * 1 something failed, 2 wrong usage or nothing to run, 77 everything was skipped.
 */
#include "fixture.h"

#include "cases.h"

static const port_theme *const themes[] = {&port_worker_slots, &port_posts, &port_bytes, &port_now,
    &port_flow, &port_ends, &port_cancel, &port_accept, &port_blocked, &port_churn};

static struct {
    const char *backend;
    const char *posted;
    const char *theme;
    char **names;
    int name_count;
    bool list;
} asked;

static struct {
    unsigned run;
    unsigned failed;
    unsigned skipped;
} totals;

static bool asked_for(const port_theme *theme, const port_case *one) {
    if (asked.theme != NULL && strcmp(asked.theme, theme->name) != 0) {
        return false;
    }
    for (int i = 0; i < asked.name_count; i++) {
        if (strcmp(asked.names[i], one->check.name) == 0) {
            return true;
        }
    }
    return asked.name_count == 0;
}

static void run_case(const port_case *one) {
    unsigned skips = atomic_load(&check_skips);
    printf("[%s, %u workers%s] ", fixture_under_test.backend, fixture_under_test.workers,
        fixture_under_test.post_receive_buffers ? ", posted receives" : "");
    totals.run++;
    totals.failed += check_run_case(&one->check) ? 0 : 1;
    totals.skipped += atomic_load(&check_skips) != skips ? 1 : 0;
}

static void run_variants(const port_case *one, const char *backend) {
    static const unsigned workers[] = {1, 4};
    for (int posted = 0; posted < 2; posted++) {
        bool other_only =
            asked.posted != NULL && (strcmp(asked.posted, "yes") == 0) != (posted == 1);
        /* Only `iocp` can receive in both ways. */
        if (other_only || (posted == 1 && strcmp(backend, "iocp") != 0)) {
            continue;
        }
        for (size_t i = 0; i < (one->matrix == EACH_WORKERS ? TP_COUNT_OF(workers) : 1); i++) {
            fixture_under_test = (fixture_variant){
                .backend = backend, .workers = workers[i], .post_receive_buffers = posted == 1};
            run_case(one);
        }
    }
}

static void run_theme(const port_theme *theme) {
    for (size_t i = 0; i < theme->count; i++) {
        const port_case *one = &theme->cases[i];
        if (!asked_for(theme, one)) {
            continue;
        }
        if (asked.list) {
            printf("%s %s\n", theme->name, one->check.name);
            totals.run++;
            continue;
        }
        for (const char *const *backend = tp_port_backends(); *backend != NULL; backend++) {
            if (asked.backend == NULL || strcmp(asked.backend, *backend) == 0) {
                run_variants(one, *backend);
            }
        }
    }
}

static bool read_arguments(int argc, char **argv) {
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        const char *value = at + 1 < argc ? argv[at + 1] : NULL;
        if (strcmp(argv[at], "--list") == 0) {
            asked.list = true;
        } else if (value != NULL && strcmp(argv[at], "--backend") == 0) {
            asked.backend = argv[++at];
        } else if (value != NULL && strcmp(argv[at], "--posted") == 0) {
            asked.posted = argv[++at];
        } else if (value != NULL && strcmp(argv[at], "--theme") == 0) {
            asked.theme = argv[++at];
        } else {
            printf("port-conformance: unknown argument: %s\n", argv[at]);
            return false;
        }
    }
    asked.names = argv + at;
    asked.name_count = argc - at;
    return true;
}

int main(int argc, char **argv) {
    if (!read_arguments(argc, argv)) {
        return 2;
    }
    for (size_t i = 0; i < TP_COUNT_OF(themes); i++) {
        run_theme(themes[i]);
    }
    if (totals.run == 0) {
        printf("no such back end, theme or case\n");
        return 2;
    }
    if (asked.list) {
        return 0;
    }
    printf("%u cases, %u failed, %u skipped\n", totals.run, totals.failed, totals.skipped);
    if (totals.failed > 0) {
        return 1;
    }
    return totals.skipped == totals.run ? 77 : 0;
}
