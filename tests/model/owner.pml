/*
 * A model of how a session's owner queues without an exchange (handover_arrive() in handover.c,
 * queue_append_by_owner() in send.c, backlog.c), beside producers on other threads that push
 * (send_queue.h).
 *
 * The owner is one thread: it appends what its handlers queue, receives the flushes that other
 * threads hand over, and flushes. The other threads run between any two of its steps, and within
 * those that look at the shared queue.
 *
 * Checked over all interleavings:
 *   - everything is sent once, and each producer's packets, the owner's included, in its order;
 *   - what the owner queues is sent behind every packet that it knew of before;
 *   - a push of the owner never makes a flusher: the owner would have the role twice;
 *   - there is never more than one flush under way;
 *   - when all is quiet, the queue is idle and the backlog is empty.
 *
 *   BROKEN_SEIZE    the owner checks that the queue is idle and then takes it, in two steps
 *   BROKEN_APPEND   the owner appends although it is not the flusher
 *   BROKEN_COLLECT  the owner appends without collecting what was pushed before
 */

#define PRODUCERS 2          /* on other threads; the owner is number PRODUCERS */
#define EACH 2
#define OWNER PRODUCERS
#define ALL ((PRODUCERS + 1) * EACH)

/* the shared word */
bool idle = true;
byte length;
byte list[ALL];

/* the owner's */
byte backlog_length;
byte backlog[ALL];
bool owner_flushes; /* the owner is the flusher */
bool listed;        /* on the owner's list of flushes */
byte own_queued;    /* packets that the owner's handlers have queued */

byte known[PRODUCERS];         /* packets that a producer has pushed: the owner may know of them */
byte behind[EACH * PRODUCERS]; /* for each of the owner's packets, what was known before */

byte sent;
byte expected[PRODUCERS + 1];
byte flushers;    /* flushers at the moment */

chan flushes = [PRODUCERS] of { bit };

inline push(who, number, was_idle) {
    atomic { was_idle = idle; idle = false; list[length] = who * EACH + number; length++; }
}

inline append(packet) {
    backlog[backlog_length] = packet;
    backlog_length++;
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
        known[me] = n;
        if
        :: was_idle -> atomic { flushers++; assert(flushers == 1); } flushes ! 1;
        :: else -> skip;
        fi
    :: else -> break;
    od
}

proctype owner() {
    byte i;
    bool was_idle;
    bool seized;
    bool retired;
end:
    do
    :: own_queued < EACH -> /* a handler queues a packet, behind what it knows of */
        d_step {
            behind[own_queued * PRODUCERS] = known[0];
            behind[own_queued * PRODUCERS + 1] = known[1];
        }
        if
#ifndef BROKEN_APPEND
        :: !owner_flushes ->
#ifdef BROKEN_SEIZE
            atomic { seized = idle; }
            atomic { if :: seized -> idle = false; :: else -> skip; fi }
#else
            atomic { seized = idle; idle = false; }
#endif
            if
            :: seized ->
                atomic { flushers++; assert(flushers == 1); }
                owner_flushes = true;
                listed = true;
                append(OWNER * EACH + own_queued);
            :: else ->
                push(OWNER, own_queued, was_idle);
                assert(!was_idle);
            fi
#endif
        :: else ->
#ifndef BROKEN_COLLECT
            collect();
#endif
            append(OWNER * EACH + own_queued);
        fi
        own_queued++;
    :: flushes ? 1 -> /* the flusher's role arrives */
        owner_flushes = true;
        assert(!listed);
        listed = true;
    :: listed -> /* the batch is done: flush, and the send's completion */
        listed = false;
        collect();
        atomic {
            i = 0;
            do
            :: i < backlog_length ->
                assert(expected[backlog[i] / EACH] == backlog[i] % EACH);
                if
                :: backlog[i] / EACH == OWNER ->
                    check_behind(backlog[i] % EACH, 0);
                    check_behind(backlog[i] % EACH, 1);
                :: else -> skip;
                fi
                expected[backlog[i] / EACH]++;
                backlog[i] = 0;
                sent++;
                i++;
            :: else -> break;
            od
            backlog_length = 0;
            i = 0;
        }
        atomic {
            retired = (length == 0);
            if
            :: retired -> idle = true; flushers--;
            :: else -> skip;
            fi
        }
        if
        :: retired -> owner_flushes = false;
        :: else -> listed = true;
        fi
    od
}

init {
    atomic { run owner(); run producer(0); run producer(1); }
    (timeout);
    assert(sent == ALL && own_queued == EACH);
    assert(idle && length == 0 && backlog_length == 0 && flushers == 0 && !owner_flushes);
}
