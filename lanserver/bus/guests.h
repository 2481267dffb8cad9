/*
 * The sessions of the hub: which peer each is, and those that have not said who they are and must
 * in time.
 */
#ifndef TWINPORT_LANSERVER_BUS_GUESTS_H
#define TWINPORT_LANSERVER_BUS_GUESTS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "os/thread.h"
#include "twinport/server.h"

struct tp__peer;

/* A session's place, found by its slot. `peer` is the session's; the rest is under the mutex. */
typedef struct tp__guest {
    struct tp__peer *peer; /* NULL: it has not said HELLO */
    tp_session_id session;
    uint64_t due_ms;   /* when it is looked at */
    uint64_t since_ms; /* served time: its worker must have heard HELLO timeout_ms later */
    struct tp__guest *earlier;
    struct tp__guest *later;
    bool waiting; /* it is on the list */
} tp__guest;

/* Places come in pages, made when the first session has a slot in them and kept until the end. */
#define TP__GUEST_PAGE  1024u
#define TP__GUEST_PAGES (TP_MAX_SESSIONS / TP__GUEST_PAGE)

typedef struct tp__guests {
    _Atomic(tp__guest *) pages[TP__GUEST_PAGES];
    tp_server *server;
    unsigned timeout_ms;
    tp_mutex mutex;
    tp__guest *first; /* the waiting ones, by due_ms */
    tp__guest *last;
    bool armed;            /* a task will look at the list */
    _Atomic uint64_t late; /* sessions that have not said HELLO in time */
} tp__guests;

void tp__guests_init(tp__guests *guests, unsigned timeout_ms);
/* After a stop, before the next start: no session is left, and tasks were dropped. */
void tp__guests_reset(tp__guests *guests, tp_server *server);
void tp__guests_destroy(tp__guests *guests);

/* on_join: NULL if memory is out. */
tp__guest *tp__guests_enter(tp__guests *guests, tp_session_id session);
/* on_recv, on_leave: NULL if it was not entered. */
tp__guest *tp__guests_find(tp__guests *guests, tp_session_id session);
/* HELLO has come, or on_leave: nobody waits for it any more. */
void tp__guests_settle(tp__guests *guests, tp__guest *guest);

#endif
