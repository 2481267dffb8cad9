/*
 * A model of common/core/engine/life.h: one slot, two lives, and all threads that race for it.
 *
 * Every step that the code does with one atomic instruction is one atomic step here; everything
 * between such steps may be interleaved. Checked over all interleavings:
 *   - each life is released exactly once, and only when no thread uses the session;
 *   - a late caller (stale id, closing session) never uses it;
 *   - no reference is lost when the slot is opened again while late callers are in the word;
 *   - when all is quiet, both lives are over and the slot is free.
 *
 * Each BROKEN_ variant undoes one decision of the code; the check must then fail.
 *
 *   BROKEN_SPLIT   the count and the release flag are decided in two steps
 *   BROKEN_STORE   opening writes the word instead of adding to it
 *   BROKEN_NUMBER  the id's number is compared before the count is raised, not by the same step
 *   BROKEN_CLOSE   closing does not check whether it is the first
 *   BROKEN_JOIN    the sweep checks that a session has not joined, and closes it in another step
 */

#define LIVES 2

/* the word */
byte count;
byte number;      /* 0: no session has lived here yet */
bool closing;
bool opening;
bool released = true;

/* what the word protects */
byte users;               /* callers that believe they may use the session */
byte releases[LIVES + 1]; /* how often each life was released */
byte closes[LIVES + 1];   /* how often each life's socket was closed */
bool socket_closing;      /* a close is with the port */
byte opened;
bool joined;              /* the application has been notified of this life */
bool cut;                 /* this life was cut before it joined */

inline release() {
    assert(users == 0);
    assert(number >= 1 && number <= LIVES);
    releases[number]++;
    assert(releases[number] == 1);
    free = true;
}

/* Is the slot free to be opened? Set by the last step of the release, as by tp__slots_give(). */
bool free = true;

#ifdef BROKEN_SPLIT
inline drop() {
    atomic { count--; last = (count == 0 && closing && !released); }
    if
    :: last -> atomic { released = true; } release();
    :: else -> skip;
    fi
}
#else
/* The fetch_sub, then the exchange that fails if the word has changed. */
inline drop() {
    atomic { count--; last = (count == 0 && closing && !released); seen_number = number; }
    if
    :: last ->
        atomic {
            if
            :: (count == 0 && closing && !released && number == seen_number) -> released = true;
            :: else -> last = false;
            fi
        }
        if
        :: last -> atomic { release(); }
        :: else -> skip;
        fi
    :: else -> skip;
    fi
}
#endif

#ifdef BROKEN_NUMBER
inline enter(id) {
    atomic { entered = (number == id && !closing && !released); }
    atomic { count++; }
    if
    :: entered -> skip;
    :: else -> drop();
    fi
}
#else
inline enter(id) {
    atomic { entered = (number == id && !closing && !released); count++; }
    if
    :: entered -> skip;
    :: else -> drop();
    fi
}
#endif

/* A thread inside send: uses the session between entering and dropping. */
proctype sender(byte id) {
    bool entered; bool last; byte seen_number;
    enter(id);
    if
    :: entered ->
        atomic { assert(!released && number == id); users++; }
        atomic { assert(!released && number == id); users--; }
        drop();
    :: else -> skip;
    fi
}

/* A thread inside disconnect: the first to set CLOSING gives the socket to the port to close. */
proctype disconnecter(byte id) {
    bool entered; bool last; byte seen_number; bool first;
    enter(id);
    if
    :: entered ->
#ifdef BROKEN_CLOSE
        atomic { first = true; closing = true; }
#else
        atomic { first = !closing; closing = true; }
#endif
        if
        :: first -> atomic { closes[id]++; assert(closes[id] == 1); socket_closing = true; }
        :: else -> skip;
        fi
        drop();
    :: else -> skip;
    fi
}

/* The sweep, which cuts a session that has not joined in time. */
proctype sweep(byte id) {
    bool entered; bool last; byte seen_number; bool first;
    enter(id);
    if
    :: entered ->
#ifdef BROKEN_JOIN
        first = opening;
        if
        :: first -> atomic { first = !closing; closing = true; }
        :: else -> skip;
        fi
#else
        atomic { first = opening && !closing; closing = closing || first; }
#endif
        if
        :: first ->
            atomic {
                cut = true;
                assert(!joined);
                closes[id]++;
                assert(closes[id] == 1);
                socket_closing = true;
            }
        :: else -> skip;
        fi
        drop();
    :: else -> skip;
    fi
}

/* The port: opens lives one after another in the same slot, completes each close, and gives the
 * socket's reference back. The peer ends each connection some time, so every life ends. */
proctype port() {
    bool last; byte seen_number; byte life; bool first;
    life = 1;
    do
    :: life <= LIVES ->
        atomic { free -> free = false; }
#ifdef BROKEN_STORE
        atomic {
            number = life;
            closing = false;
            released = false;
            count = 1;
            opened = life;
            opening = true;
            joined = false;
            cut = false;
        }
#else
        atomic {
            number = life;
            closing = false;
            released = false;
            count++;
            opened = life;
            opening = true;
            joined = false;
            cut = false;
        }
#endif
        /* the join: it learns whether closing began before it */
        atomic { opening = false; first = !closing; }
        if
        :: first -> atomic { joined = true; assert(!cut); }
        :: else -> skip;
        fi
        /* the peer's end arrives at any moment; the receive's delivery runs under the socket's
         * reference */
        atomic { first = !closing; closing = true; }
        if
        :: first -> atomic { closes[life]++; assert(closes[life] == 1); socket_closing = true; }
        :: else -> skip;
        fi
        atomic { socket_closing -> socket_closing = false; }
        drop();
        life++;
    :: else -> break;
    od
}

init {
    atomic {
        run port();
        run sender(1);
        run sender(2);
        run disconnecter(1);
        run disconnecter(2);
        run sweep(1);
    }
    /* all threads have finished */
    (_nr_pr == 1);
    assert(count == 0);
    assert(released && free);
    assert(releases[1] == 1 && releases[2] == 1);
    assert(closes[1] == 1 && closes[2] == 1);
}
