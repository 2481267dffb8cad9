/*
 * The link clock: the clock of all time-outs for events from the bus.
 *
 * It is the served time (core/engine/service_time.h) of the worker that serves the link: it stands
 * still while that worker cannot receive, so a reply that waits in the socket is not late. It
 * continues from one link to the next. Only differences of it are meaningful.
 */
#ifndef TWINPORT_LANCLIENT_CLIENT_LINK_CLOCK_H
#define TWINPORT_LANCLIENT_CLIENT_LINK_CLOCK_H

#include <stdint.h>

#include "twinport/lanclient.h"

/* Milliseconds. Any thread; takes the client's mutex. */
uint64_t tp__lanclient_now_ms(tp_lanclient *client);

/* The same, under the client's mutex. */
uint64_t tp__lanclient_now_locked(const tp_lanclient *client);

/* At a start, before there is a link. Under the client's mutex. */
void tp__link_clock_reset(tp_lanclient *client);

/* The calling worker serves the link from now on. Under the client's mutex. */
void tp__link_clock_follow(tp_lanclient *client);

#endif
