/*
 * The link's clock: what waits for something from the bus waits by it.
 *
 * It is the served time (core/engine/service_time.h) of the worker that serves the link, and stands
 * still while nobody could listen to the link: a reply that lies in the socket is not late. From
 * one link to the next it goes on where it was. Only differences of it mean something.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_LINK_CLOCK_H
#define TWINPORT_LANCLIENT_CLIENT_LINK_CLOCK_H

#include <stdint.h>

#include "twinport/lanclient.h"

/* Milliseconds. Any thread; takes the client's mutex. */
uint64_t tp__lanclient_now_ms(tp_lanclient *client);

/* The same under the mutex. */
uint64_t tp__lanclient_now_locked(const tp_lanclient *client);

/* A start: no link yet. Under the mutex. */
void tp__link_clock_reset(tp_lanclient *client);

/* The calling worker serves the link from now on. Under the mutex. */
void tp__link_clock_follow(tp_lanclient *client);

#endif
