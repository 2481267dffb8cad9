/*
 * The themes of the suite, one file for each.
 */
#ifndef TWINPORT_TESTS_PORT_CASES_H
#define TWINPORT_TESTS_PORT_CASES_H

#include "check.h"

/* Which variants a case is run with. */
typedef enum port_matrix {
    ONCE,         /* the case chooses the number of workers; only the back end's options vary */
    EACH_WORKERS, /* with 1 worker and with 4 */
} port_matrix;

typedef struct port_case {
    struct check_case check;
    port_matrix matrix;
} port_case;

typedef struct port_theme {
    const char *name;
    const port_case *cases;
    size_t count;
} port_theme;

#define PORT_CASE(function, matrix)                                                                \
    { CASE(function), matrix }
#define PORT_THEME(theme, ...)                                                                     \
    static const port_case cases[] = {__VA_ARGS__};                                                \
    const port_theme port_##theme = {#theme, cases, sizeof cases / sizeof cases[0]};

extern const port_theme port_worker_slots; /* ports, workers, waiting, waking */
extern const port_theme port_posts;        /* posts from any thread */
extern const port_theme port_bytes;        /* order and completeness of what is sent */
extern const port_theme port_now;          /* sending without an operation */
extern const port_theme port_flow;         /* pause and resume, slow readers, fairness */
extern const port_theme port_ends;         /* how connections fail to begin, and how they end */
extern const port_theme port_cancel;       /* closing at every moment */
extern const port_theme port_accept;       /* bursts, and no descriptors left */
extern const port_theme port_blocked;      /* a `done` that blocks its worker */
extern const port_theme port_churn;        /* thousands of connections */

#endif
