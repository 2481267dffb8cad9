/*
 * A model of common/core/engine/send_queue.h and of its use in flush.c: producers push, the one
 * that finds the queue idle has a flush done, and the flusher retires only if nothing was pushed
 * meanwhile.
 *
 * Checked over all interleavings:
 *   - there is never more than one flusher;
 *   - everything pushed is sent, once, and each producer's packets in its order;
 *   - when all is quiet, the queue is idle: nothing waits without a flusher.
 *
 *   BROKEN_RETIRE  the flusher checks that the queue is empty and then writes IDLE, in two steps
 *   BROKEN_PUSH    a producer checks whether the queue is idle before its exchange, not by it
 *   BROKEN_ORDER   what is taken is sent newest first: the list is not reversed
 */

#define PRODUCERS 3
#define EACH 2
#define ALL (PRODUCERS * EACH)

/* The word: idle, busy, or a list of pushed packets, here with the newest last. */
bool idle = true;
byte length;
byte list[ALL];

byte flushers;
byte sent;
byte expected[PRODUCERS]; /* the next packet of each producer */

chan flushes = [PRODUCERS] of { bit }; /* a flush handed over to a worker that serves the socket */

proctype producer(byte me) {
    byte i;
    bool was_idle;
    do
    :: i < EACH ->
#ifdef BROKEN_PUSH
        atomic { was_idle = idle; }
        atomic { idle = false; list[length] = me * EACH + i; length++; }
#else
        atomic { was_idle = idle; idle = false; list[length] = me * EACH + i; length++; }
#endif
        i++;
        if
        :: was_idle -> flushes ! 1;
        :: else -> skip;
        fi
    :: else -> break;
    od
}

/* Two workers: on some ports any worker may take the flush. */
proctype worker() {
    byte taken[ALL];
    byte count;
    byte i;
    byte packet;
    bool again;
end:
    do
    :: flushes ? 1 ->
        atomic { flushers++; assert(flushers == 1); }
        again = true;
        do
        :: again ->
            /* take: exchange with BUSY */
            d_step {
                count = length;
                i = 0;
                do
                :: i < count -> taken[i] = list[i]; i++;
                :: else -> break;
                od
                length = 0;
                i = 0;
            }
            assert(count > 0); /* a flusher always has something to send */
            do
            :: i < count ->
                atomic {
#ifdef BROKEN_ORDER
                    packet = taken[count - 1 - i];
#else
                    packet = taken[i];
#endif
                    assert(expected[packet / EACH] == packet % EACH);
                    expected[packet / EACH]++;
                    sent++;
                }
                i++;
            :: else -> break;
            od
            /* retire: exchange of BUSY by IDLE, which fails if something was pushed. That very step
             * ends the flusher's role: the next one may begin at once. */
#ifdef BROKEN_RETIRE
            atomic { again = (length > 0); }
            atomic {
                if
                :: !again -> idle = true; flushers--;
                :: else -> skip;
                fi
            }
#else
            atomic {
                again = (length > 0);
                if
                :: !again -> idle = true; flushers--;
                :: else -> skip;
                fi
            }
#endif
        :: else -> break;
        od
    od
}

init {
    atomic {
        run worker();
        run worker();
        run producer(0);
        run producer(1);
        run producer(2);
    }
    (timeout);
    assert(sent == ALL);
    assert(idle && length == 0 && flushers == 0);
}
