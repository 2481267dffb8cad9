/*
 * A model of how the backlog changes hands while a send waits (compact.h). The flusher opens it; a
 * thread that pushes takes it, moves what is queued behind what is in it, and opens it again. When
 * its send is done, the flusher takes the backlog back, or has the flush passed on.
 *
 * Two workers and PRODUCERS other threads. Where sockets are bound, worker 0 is the owner: flushes
 * and completions come only to it, and its handlers queue packets too. Otherwise either worker
 * takes any of them, a completion even before the call that started its send has returned.
 *
 * A send is done at once, or it waits and is done some time, or it waits until all is quiet.
 *
 * Checked over all interleavings:
 *   - everything is sent once, and each producer's packets, the owner's included, in its order;
 *   - two threads never use the backlog at the same time;
 *   - when all is quiet and a send waits, nothing is left in the queue: all of it has been moved;
 *   - when all is done, the queue is idle, the backlog is empty and there is no flusher.
 *
 *   BROKEN_OPEN_LAST  the flusher looks at the queue and then opens
 *   BROKEN_LOOK       a pusher looks at the state before its push
 *   BROKEN_AGAIN      a pusher that has moved what was queued does not look again
 *   BROKEN_WANTED     the flusher comes back and uses the backlog even if a pusher has it
 *   BROKEN_PASS       a pusher that finds that the flusher has asked does not pass the flush on
 *   BROKEN_OWNER      the owner appends to the backlog in any state
 */

#define PRODUCERS 2
#define EACH 2
#define OWN 1                      /* the owner's packets; it is number PRODUCERS */
#define OWNER PRODUCERS
#define ALL (PRODUCERS * EACH + OWN)

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
byte users;                        /* of the backlog at this moment */
byte backlog_length;
byte backlog[ALL];

byte batch_length;
byte batch[ALL];

bool owner_flushes;
bool listed;                       /* on a worker's list of flushes: that of worker 0 if bound */
bool finish_waiting;               /* a send that waits until all is quiet may be done */
byte flushers;
byte sent;
byte expected[PRODUCERS + 1];
byte own_queued;

chan flushes = [2] of { bit };
chan done = [1] of { bit };        /* a send is done */
bool waits;                        /* a send that is done only at finish_waiting */

inline enter() { atomic { assert(users == 0); users++; } }
inline leave() { atomic { users--; } }

inline collect() {
    d_step {
        i = 0;
        do
        :: i < length -> backlog[backlog_length] = list[i]; backlog_length++; list[i] = 0; i++;
        :: else -> break;
        od
        length = 0;
        i = 0;
    }
}

/* tp__compact_slow(). */
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
    :: was_idle -> atomic { flushers++; assert(flushers == 1); } flushes ! 1;
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

/* The flusher has the backlog: sends it, or retires. */
inline continue_flush() {
    enter();
    collect();
    d_step {
        batch_length = backlog_length;
        i = 0;
        do
        :: i < backlog_length -> batch[i] = backlog[i]; backlog[i] = 0; i++;
        :: else -> break;
        od
        backlog_length = 0;
        i = 0;
    }
    leave();
    if
    :: batch_length == 0 ->
        atomic {
            was = (length == 0);
            if
            :: was -> idle = true; flushers--; owner_flushes = false;
            :: else -> listed = true;
            fi
        }
    :: else -> /* it waits, or (not bound) is lent to the system: opened before that */
        if
        :: binds -> done ! 1; /* done at once */
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
    :: (me == 0 && binds && own_queued < OWN) -> /* a handler queues a packet; the owner only */
        if
#ifndef BROKEN_OWNER
        :: owner_flushes && state != OWNED ->
            own_queued++;
            push(OWNER * EACH + own_queued - 1);
            assert(!was_idle);
        :: owner_flushes && state == OWNED ->
#else
        :: owner_flushes ->
#endif
            enter();
            collect();
            d_step {
                backlog[backlog_length] = OWNER * EACH + own_queued;
                backlog_length++;
                own_queued++;
            }
            leave();
        :: !owner_flushes ->
            own_queued++;
            atomic { was = idle; idle = false; }
            if
            :: was ->
                atomic { flushers++; assert(flushers == 1); }
                owner_flushes = true;
                backlog[backlog_length] = OWNER * EACH + own_queued - 1;
                backlog_length++;
                listed = true;
            :: else ->
                atomic { assert(!idle); list[length] = OWNER * EACH + own_queued - 1; length++; }
            fi
        fi
    :: atomic { (me == 0 || !binds) && flushes ? [1] -> flushes ? 1; }
        owner_flushes = binds;
        assert(!listed);
        listed = true;
    :: atomic { (me == 0 || !binds) && listed -> listed = false; }
        continue_flush();
    :: atomic { (me == 0 || !binds) && done ? [1] -> done ? 1; }
        d_step {
            i = 0;
            do
            :: i < batch_length ->
                assert(expected[batch[i] / EACH] == batch[i] % EACH);
                expected[batch[i] / EACH]++;
                batch[i] = 0;
                sent++;
                i++;
            :: else -> break;
            od
            batch_length = 0;
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
        :: was -> continue_flush();
        :: else -> skip;
        fi
    :: atomic { finish_waiting && waits -> waits = false; finish_waiting = false; done ! 1; }
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
        :: waits -> assert(state == OPEN && length == 0); finish_waiting = true;
        :: else -> break;
        fi
    od
    assert(sent == PRODUCERS * EACH + (binds -> OWN : 0));
    assert(idle && length == 0 && backlog_length == 0 && batch_length == 0);
    assert(flushers == 0 && state == OWNED && !owner_flushes);
}
