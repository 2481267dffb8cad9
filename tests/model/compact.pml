/*
 * A model of how what is pending changes hands while a send waits (compact.h): the flush owner opens
 * it, whoever pushes takes it, moves what is queued behind what is pending and opens it again, and
 * the owner takes it back when its send is done or has the flush passed on.
 *
 * Two workers and PRODUCERS other threads. Where sockets are bound, worker 0 is home: flushes and
 * completions come to it alone, and its handlers say things too. Otherwise either worker takes any,
 * a completion even before the call that started its send has returned.
 *
 * A send is over at once, or it waits and is over some time, or it waits until all is quiet.
 *
 * Checked over all interleavings:
 *   - everything is sent once, and each producer's packets, home's included, in its order;
 *   - two never use what is pending at once;
 *   - when all is quiet and a send waits, nothing is left in the queue: all of it has been moved;
 *   - when all is over, the queue is idle, nothing is pending and nobody is the owner.
 *
 * BROKEN_OPEN_LAST  the owner looks at the queue and then opens
 * BROKEN_LOOK       who pushes looks at the state before its push
 * BROKEN_AGAIN      who has moved what was queued does not look again
 * BROKEN_WANTED     the owner comes back and uses what is pending, whoever is at work
 * BROKEN_PASS       who finds that the owner has asked does not pass the flush on
 * BROKEN_HOME       home appends whatever the state is
 */

#define PRODUCERS 2
#define EACH 2
#define SAYS 1                     /* home's packets: number PRODUCERS */
#define HOME PRODUCERS
#define ALL (PRODUCERS * EACH + SAYS)

#define OWNED 0
#define OPEN 1
#define TAKEN 2
#define WANTED 3

bool binds;

/* the shared word */
bool idle = true;
byte length;
byte list[ALL];

byte state;
byte users;                        /* of what is pending, at this moment */
byte pending_length;
byte pending[ALL];

byte flight_length;
byte flight[ALL];

bool owned_at_home;
bool listed;                       /* on a worker's list of flushes: 0 if bound */
bool let_go;                       /* what waits until all is quiet may be over */
byte owners;
byte sent;
byte expected[PRODUCERS + 1];
byte said;

chan flushes = [2] of { bit };
chan done = [1] of { bit };        /* a send is over */
bool waits;                        /* one that is over only when let go */

inline enter() { atomic { assert(users == 0); users++; } }
inline leave() { atomic { users--; } }

inline collect() {
    d_step {
        i = 0;
        do
        :: i < length -> pending[pending_length] = list[i]; pending_length++; list[i] = 0; i++;
        :: else -> break;
        od
        length = 0;
        i = 0;
    }
}

/* tp__compact_slowly(). */
inline compact() {
    do
    :: atomic { length > 0 && state == OPEN -> state = TAKEN; }
        enter();
        collect();
        leave();
        atomic {
            if
            :: state == TAKEN -> state = OPEN; was = false;
            :: else -> assert(state == WANTED); was = true;
            fi
        }
        if
        :: was ->
            state = OWNED;
#ifndef BROKEN_PASS
            flushes ! 1;
#endif
            break;
        :: else ->
#ifdef BROKEN_AGAIN
            break;
#else
            skip;
#endif
        fi
    :: atomic { !(length > 0 && state == OPEN) -> break; }
    od
}

inline push(packet) {
#ifdef BROKEN_LOOK
    was = (state == OPEN);
#endif
    atomic { was_idle = idle; idle = false; list[length] = packet; length++; }
    if
    :: was_idle -> atomic { owners++; assert(owners == 1); } flushes ! 1;
#ifdef BROKEN_LOOK
    :: !was_idle && was -> compact();
    :: !was_idle && !was -> skip;
#else
    :: else -> compact();
#endif
    fi
}

proctype producer(byte me) {
    byte n;
    byte i;
    bool was;
    bool was_idle;
    do
    :: n < EACH -> push(me * EACH + n); n++;
    :: else -> break;
    od
}

/* The owner has what is pending: sends it, or retires. */
inline go_on() {
    enter();
    collect();
    d_step {
        flight_length = pending_length;
        i = 0;
        do
        :: i < pending_length -> flight[i] = pending[i]; pending[i] = 0; i++;
        :: else -> break;
        od
        pending_length = 0;
        i = 0;
    }
    leave();
    if
    :: flight_length == 0 ->
        atomic {
            was = (length == 0);
            if
            :: was -> idle = true; owners--; owned_at_home = false;
            :: else -> listed = true;
            fi
        }
    :: else -> /* it waits, or (not bound) is lent to the system: opened before it is */
        if
        :: binds -> done ! 1; /* over at once */
        :: true ->
#ifdef BROKEN_OPEN_LAST
            compact();
            state = OPEN;
#else
            state = OPEN;
            compact();
#endif
            if
            :: done ! 1;
            :: waits = true;
            fi
        fi
    fi
}

proctype worker(byte me) {
    byte i;
    bool was;
    bool was_idle;
end:
    do
    :: (me == 0 && binds && said < SAYS) -> /* a handler says something; home alone */
        if
#ifndef BROKEN_HOME
        :: owned_at_home && state != OWNED ->
            said++;
            push(HOME * EACH + said - 1);
            assert(!was_idle);
        :: owned_at_home && state == OWNED ->
#else
        :: owned_at_home ->
#endif
            enter();
            collect();
            d_step {
                pending[pending_length] = HOME * EACH + said;
                pending_length++;
                said++;
            }
            leave();
        :: !owned_at_home ->
            said++;
            atomic { was = idle; idle = false; }
            if
            :: was ->
                atomic { owners++; assert(owners == 1); }
                owned_at_home = true;
                pending[pending_length] = HOME * EACH + said - 1;
                pending_length++;
                listed = true;
            :: else -> atomic { assert(!idle); list[length] = HOME * EACH + said - 1; length++; }
            fi
        fi
    :: atomic { (me == 0 || !binds) && flushes ? [1] -> flushes ? 1; }
        owned_at_home = binds;
        assert(!listed);
        listed = true;
    :: atomic { (me == 0 || !binds) && listed -> listed = false; }
        go_on();
    :: atomic { (me == 0 || !binds) && done ? [1] -> done ? 1; }
        d_step {
            i = 0;
            do
            :: i < flight_length ->
                assert(expected[flight[i] / EACH] == flight[i] % EACH);
                expected[flight[i] / EACH]++;
                flight[i] = 0;
                sent++;
                i++;
            :: else -> break;
            od
            flight_length = 0;
            i = 0;
        }
        atomic {
            if
            :: state == OWNED -> was = true;
            :: state == OPEN -> state = OWNED; was = true;
            :: else ->
#ifdef BROKEN_WANTED
                was = true;
#else
                assert(state == TAKEN);
                state = WANTED;
                was = false;
#endif
            fi
        }
        if
        :: was -> go_on();
        :: else -> skip;
        fi
    :: atomic { let_go && waits -> waits = false; let_go = false; done ! 1; }
    od
}

init {
    atomic {
        if
        :: binds = true;
        :: binds = false;
        fi
        run worker(0); run worker(1); run producer(0); run producer(1);
    }
    do
    :: timeout ->
        if
        :: waits -> assert(state == OPEN && length == 0); let_go = true;
        :: else -> break;
        fi
    od
    assert(sent == PRODUCERS * EACH + (binds -> SAYS : 0));
    assert(idle && length == 0 && pending_length == 0 && flight_length == 0);
    assert(owners == 0 && state == OWNED && !owned_at_home);
}
