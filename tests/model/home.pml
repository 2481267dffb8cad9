/*
 * A model of how a session's home queues without an exchange (handover.c own, send.c append, pending_list.c), beside
 * producers on other threads that push (send_queue.h).
 *
 * Home is one thread: it appends what its handlers say, receives the flushes that others hand over, and
 * flushes. Between any two of its steps, and within those that look at the shared queue, the others go on.
 *
 * Checked over all interleavings:
 *   - everything is sent once, and each producer's packets, home's included, in its order;
 *   - what home says is sent behind every packet that it had been told of before;
 *   - a push of home's never makes an owner: home would have two roles;
 *   - there is never more than one flush under way;
 *   - when all is quiet, the queue is idle and nothing is pending.
 *
 * BROKEN_SEIZE    home looks whether the queue is idle and then takes it, in two steps
 * BROKEN_APPEND   home appends although it has not got the role
 * BROKEN_COLLECT  home appends without collecting what was pushed before
 */

#define PRODUCERS 2          /* on other threads; home is number PRODUCERS */
#define EACH 2
#define HOME PRODUCERS
#define ALL ((PRODUCERS + 1) * EACH)

/* the shared word */
bool idle = true;
byte length;
byte list[ALL];

/* home's */
byte pending_length;
byte pending[ALL];
bool owned;       /* the role is with home */
bool listed;      /* on home's list of flushes */
byte said;        /* packets that home's handlers have said */

byte told[PRODUCERS];          /* packets that a producer has pushed, and home may know it */
byte behind[EACH * PRODUCERS]; /* for each of home's packets, what had been told before */

byte sent;
byte expected[PRODUCERS + 1];
byte owners;      /* roles that exist */

chan flushes = [PRODUCERS] of { bit };

inline push(who, number, was_idle) {
    atomic { was_idle = idle; idle = false; list[length] = who * EACH + number; length++; }
}

inline append(packet) {
    pending[pending_length] = packet;
    pending_length++;
}

inline collect() {
    d_step {
        i = 0;
        do
        :: i < length -> append(list[i]); list[i] = 0; i++;
        :: else -> break;
        od
        length = 0;
        i = 0;
    }
}

inline check_behind(number, who) {
    assert(expected[who] >= behind[number * PRODUCERS + who]);
    behind[number * PRODUCERS + who] = 0;
}

proctype producer(byte me) {
    byte n;
    bool was_idle;
    do
    :: n < EACH ->
        push(me, n, was_idle);
        n++;
        told[me] = n;
        if
        :: was_idle -> atomic { owners++; assert(owners == 1); } flushes ! 1;
        :: else -> skip;
        fi
    :: else -> break;
    od
}

proctype home() {
    byte i;
    bool was_idle;
    bool seized;
    bool retired;
end:
    do
    :: said < EACH -> /* a handler says something, knowing what it has been told */
        d_step {
            behind[said * PRODUCERS] = told[0];
            behind[said * PRODUCERS + 1] = told[1];
        }
        if
#ifndef BROKEN_APPEND
        :: !owned ->
#ifdef BROKEN_SEIZE
            atomic { seized = idle; }
            atomic { if :: seized -> idle = false; :: else -> skip; fi }
#else
            atomic { seized = idle; idle = false; }
#endif
            if
            :: seized ->
                atomic { owners++; assert(owners == 1); }
                owned = true;
                listed = true;
                append(HOME * EACH + said);
            :: else ->
                push(HOME, said, was_idle);
                assert(!was_idle);
            fi
#endif
        :: else ->
#ifndef BROKEN_COLLECT
            collect();
#endif
            append(HOME * EACH + said);
        fi
        said++;
    :: flushes ? 1 -> /* the role arrives */
        owned = true;
        assert(!listed);
        listed = true;
    :: listed -> /* the batch is done: flush, and the send's completion */
        listed = false;
        collect();
        atomic {
            i = 0;
            do
            :: i < pending_length ->
                assert(expected[pending[i] / EACH] == pending[i] % EACH);
                if
                :: pending[i] / EACH == HOME ->
                    check_behind(pending[i] % EACH, 0);
                    check_behind(pending[i] % EACH, 1);
                :: else -> skip;
                fi
                expected[pending[i] / EACH]++;
                pending[i] = 0;
                sent++;
                i++;
            :: else -> break;
            od
            pending_length = 0;
            i = 0;
        }
        atomic {
            retired = (length == 0);
            if
            :: retired -> idle = true; owners--;
            :: else -> skip;
            fi
        }
        if
        :: retired -> owned = false;
        :: else -> listed = true;
        fi
    od
}

init {
    atomic { run home(); run producer(0); run producer(1); }
    (timeout);
    assert(sent == ALL && said == EACH);
    assert(idle && length == 0 && pending_length == 0 && owners == 0 && !owned);
}
