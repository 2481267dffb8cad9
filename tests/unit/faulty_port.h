/*
 * A port that fails on request, between the server and the system's back end.
 *
 * The test compiles server_run.c with tp_port_create renamed to faulty_port_create. The port that a
 * server opens while `faulty.watched` is set gets a function table that first looks at `faulty` and
 * then calls the back end. The ports of the test's peers stay as they are.
 */
#ifndef TWINPORT_TESTS_FAULTY_PORT_H
#define TWINPORT_TESTS_FAULTY_PORT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "os/port.h"

typedef struct faulty_port {
    atomic_bool watched;

    /* How many of the next calls fail. Any thread. */
    atomic_uint posts, attaches, connects, accepts, receives, sends, waits;

    /* How many calls there were, failed or not. */
    atomic_uint posts_seen, waits_seen, closes_seen;

    /* Called inside the call, before it is passed on; NULL: nothing. Set before the server
     * starts. */
    void (*on_create)(void);
    void (*on_accept)(void);
    void (*on_close)(void);

    /* While hold_connect is set, a connect returns TP_OK and is kept here instead of being started,
     * one at a time, until faulty_port_connect_now(). */
    atomic_bool hold_connect;
    atomic_bool held;
} faulty_port;

extern faulty_port faulty;

/* Clears all faults; the next server's port is watched. */
void faulty_port_reset(void);

/* Starts the connect that is held. */
tp_err faulty_port_connect_now(void);

#endif
