/*
 * Sessions before and after their HELLO. See guests.h.
 *
 * enter, find and settle are called by the session's own handlers; the deadline runs as a task on
 * any worker and touches only the list, under the mutex. A place belongs to the session that has
 * the slot, and the server uses a slot again only after on_leave, so a place has one user at a
 * time.
 */
#include "lanserver/bus/guests.h"

#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "os/clock.h"
#include "proto/frame.h"
#include "twinport/log.h"

static void deadline(void *context);

void tp__guests_init(tp__guests *guests, unsigned timeout_ms) {
    for (uint32_t i = 0; i < TP__GUEST_PAGES; i++) {
        atomic_init(&guests->pages[i], NULL);
    }
    guests->server = NULL;
    guests->timeout_ms = timeout_ms;
    guests->first = NULL;
    guests->last = NULL;
    guests->armed = false;
    atomic_init(&guests->late, 0);
    tp_mutex_init(&guests->mutex);
}

void tp__guests_reset(tp__guests *guests, tp_server *server) {
    tp_mutex_lock(&guests->mutex);
    guests->server = server;
    guests->armed = false;
    tp_mutex_unlock(&guests->mutex);
}

void tp__guests_destroy(tp__guests *guests) {
    for (uint32_t i = 0; i < TP__GUEST_PAGES; i++) {
        tp__free(atomic_load_explicit(&guests->pages[i], memory_order_relaxed));
    }
    tp_mutex_destroy(&guests->mutex);
}

/* The page, made if it is not there; who comes second to make it uses the first one's. */
static tp__guest *page_of(tp__guests *guests, uint32_t slot) {
    _Atomic(tp__guest *) *place = &guests->pages[slot / TP__GUEST_PAGE];
    tp__guest *page = atomic_load_explicit(place, memory_order_acquire);
    if (page) {
        return page;
    }
    tp__guest *made = tp__allocate_zeroed(TP__GUEST_PAGE, sizeof *made);
    if (!made) {
        return NULL;
    }
    if (atomic_compare_exchange_strong_explicit(
            place, &page, made, memory_order_acq_rel, memory_order_acquire)) {
        return made;
    }
    tp__free(made);
    return page;
}

static void unlink_guest(tp__guests *guests, tp__guest *guest) {
    *(guest->earlier ? &guest->earlier->later : &guests->first) = guest->later;
    *(guest->later ? &guest->later->earlier : &guests->last) = guest->earlier;
    guest->waiting = false;
}

/* Has a task look at the list when its first one is due. Under the mutex. Without the task the idle
 * time-out still ends the session, only later. */
static void arm(tp__guests *guests, uint64_t now_ms) {
    if (guests->armed || !guests->first) {
        return;
    }
    uint64_t due = guests->first->due_ms;
    unsigned delay = due > now_ms ? (unsigned)(due - now_ms) : 0;
    tp_err error = tp_server_post(guests->server, delay, deadline, guests);
    guests->armed = error == TP_OK;
    if (error && error != TP_ERR_STATE) {
        TP_LOG(TP_LOG_WARNING, "bus: the deadline for HELLO cannot be watched: %s",
            tp_err_text(error));
    }
}

static void say_late(tp__guests *guests, tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    char text[TP_ADDRESS_TEXT] = "?";
    atomic_fetch_add_explicit(&guests->late, 1, memory_order_relaxed);
    if (tp_server_session_info(guests->server, session, &info)) {
        tp_address_format(&info.peer, text);
    }
    TP_LOG(TP_LOG_WARNING, "bus: refused %s: it has not said HELLO within %u ms", text,
        guests->timeout_ms);
}

static void append_guest(tp__guests *guests, tp__guest *guest) {
    guest->earlier = guests->last;
    guest->later = NULL;
    guest->waiting = true;
    *(guests->last ? &guests->last->later : &guests->first) = guest;
    guests->last = guest;
}

/* What is left of its time: its worker may have been held up, and its HELLO lies there. */
static uint64_t time_left(const tp__guests *guests, const tp__guest *guest, uint64_t now_ms) {
    uint64_t served =
        tp__server_session_served_ms(guests->server, guest->session, now_ms) - guest->since_ms;
    return served < guests->timeout_ms ? guests->timeout_ms - served : 0;
}

/* Behind the others, so not before the last of them: that is one time-out more at the most. */
static void look_later(tp__guests *guests, tp__guest *guest, uint64_t due_ms) {
    uint64_t last_ms = guests->last ? guests->last->due_ms : 0;
    guest->due_ms = due_ms > last_ms ? due_ms : last_ms;
    append_guest(guests, guest);
}

static void deadline(void *context) {
    tp__guests *guests = context;
    uint64_t now = tp_clock_ms();
    tp_mutex_lock(&guests->mutex);
    guests->armed = false;
    while (guests->first && guests->first->due_ms <= now) {
        tp__guest *guest = guests->first;
        uint64_t left = time_left(guests, guest, now);
        unlink_guest(guests, guest);
        if (left > 0) {
            look_later(guests, guest, now + left);
            continue;
        }
        say_late(guests, guest->session);
        tp_server_turn_away(guests->server, guest->session, TP_CLOSE_IDLE);
    }
    arm(guests, now);
    tp_mutex_unlock(&guests->mutex);
}

tp__guest *tp__guests_enter(tp__guests *guests, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    tp__guest *page = page_of(guests, slot);
    if (!page) {
        return NULL;
    }
    tp__guest *guest = &page[slot % TP__GUEST_PAGE];
    uint64_t now = tp_clock_ms();
    uint64_t since = tp__server_session_served_ms(guests->server, session, now);
    guest->peer = NULL;
    tp_mutex_lock(&guests->mutex);
    guest->session = session;
    guest->since_ms = since;
    look_later(guests, guest, now + guests->timeout_ms);
    arm(guests, now);
    tp_mutex_unlock(&guests->mutex);
    return guest;
}

tp__guest *tp__guests_find(tp__guests *guests, tp_session_id session) {
    uint32_t slot = tp_session_slot(session);
    tp__guest *page =
        atomic_load_explicit(&guests->pages[slot / TP__GUEST_PAGE], memory_order_acquire);
    tp__guest *guest = page ? &page[slot % TP__GUEST_PAGE] : NULL;
    return guest && guest->session == session ? guest : NULL;
}

void tp__guests_settle(tp__guests *guests, tp__guest *guest) {
    tp_mutex_lock(&guests->mutex);
    if (guest->waiting) {
        unlink_guest(guests, guest);
    }
    tp_mutex_unlock(&guests->mutex);
}
