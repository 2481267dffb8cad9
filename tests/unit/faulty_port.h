/*
 * A port that fails when it is told to, between the server and the back end in use.
 *
 * The test's own server_run.c is compiled with tp_port_create named faulty_port_create: the port
 * that a server opens while `faulty.watched` is set gets a table whose functions look at `faulty`
 * and then call the back end's. The peers' ports stay as they are.
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

    /* Run inside the call, before it is passed on; NULL: nothing. Set before the server starts. */
    void (*on_create)(void);
    void (*on_accept)(void);
    void (*on_close)(void);

    /* Connects are accepted and kept here instead of being begun, one at a time, until
     * faulty_port_connect_now(). */
    atomic_bool hold_connect;
    atomic_bool held;
} faulty_port;

extern faulty_port faulty;

/* All quiet, and the next server's port is watched. */
void faulty_port_reset(void);

/* Begins the connect that is held. */
tp_err faulty_port_connect_now(void);

#endif
