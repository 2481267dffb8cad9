/*
 * A model of the queue of the handshake threads (wanserver/handshake/jobs.h): slots and tickets, a
 * head that any thread moves, and a taker that may stop for good anywhere in a take.
 *
 * Two putters put two jobs each into two slots. One taker takes until nothing is left. The other
 * takes twice and may stop between any two of its steps, because nothing waits for it.
 *
 * Checked over all interleavings:
 *   - a slot is free when its ticket is given;
 *   - each job is taken once, and in the order of the tickets that the jobs were given;
 *   - wherever one taker stops, the other gets all jobs that it has not taken.
 *
 *   BROKEN_HELP   only the thread that took a job moves head
 *   BROKEN_COUNT  a job is counted after it has its ticket, not before
 *   BROKEN_TAKE   seeing the job and freeing its slot are two steps
 *   BROKEN_TURN   a slot that is freed is free for its old ticket
 */

#define SIZE    2
#define PUTTERS 2
#define EACH    2
#define ALL     (PUTTERS * EACH)
#define NONE    255

byte turn[SIZE]; /* the slot's word */
byte job[SIZE];
byte head;
byte tail;
byte waiting;
byte finished; /* putters that have put all their jobs */

byte order[ALL]; /* the job of each ticket */
byte taken;      /* jobs that have been taken; also the next ticket to be taken */

#ifdef BROKEN_TURN
#define GIVEN_BACK(at) (2 * (at))
#else
#define GIVEN_BACK(at) (2 * ((at) + SIZE))
#endif

proctype putter(byte number) {
    byte left = EACH;
    byte mine;
    do
    :: left > 0 ->
#ifdef BROKEN_COUNT
        waiting < SIZE;
        atomic { mine = tail; tail++; }
        atomic { waiting++; }
#else
        /* A putter that finds the queue full counts itself, takes that back, and changes nothing
         * else. */
        atomic { waiting < SIZE -> waiting++; }
        atomic { mine = tail; tail++; }
#endif
        assert(turn[mine % SIZE] == 2 * mine);
        order[mine] = number * EACH + left;
        job[mine % SIZE] = order[mine];
        turn[mine % SIZE] = 2 * mine + 1;
        left--;
    :: else -> break
    od;
    finished++;
}

inline give_back_and_note() {
    turn[first % SIZE] = GIVEN_BACK(first);
    got = held;
    assert(first == taken);
    assert(held == order[first]);
    taken++;
}

/* One take; `got` is the job or NONE. */
inline take() {
    got = NONE;
    do
    :: first = head;
        word = turn[first % SIZE];
        if
        :: word == 2 * first + 1 ->
            held = job[first % SIZE];
#ifdef BROKEN_TAKE
            if
            :: turn[first % SIZE] == 2 * first + 1 -> atomic { give_back_and_note(); }
            :: else -> skip
            fi;
#else
            atomic {
                if
                :: turn[first % SIZE] == 2 * first + 1 -> give_back_and_note();
                :: else -> skip
                fi
            };
#endif
            if
            :: got != NONE ->
                atomic {
                    if
                    :: head == first -> head++;
                    :: else -> skip
                    fi
                };
                atomic { waiting--; }
                break
            :: else -> skip
            fi
        :: word == 2 * first -> break
        :: else ->
#ifdef BROKEN_HELP
            break
#else
            atomic {
                if
                :: head == first -> head++;
                :: else -> skip
                fi
            }
#endif
        fi
    od
}

proctype stopping() {
    byte first;
    byte word;
    byte held;
    byte got;
    take();
    take();
}

proctype taker() {
    byte first;
    byte word;
    byte held;
    byte got;
    bool last;
    do
    :: last = finished == PUTTERS;
        take();
        if
        :: last && got == NONE -> break
        :: else -> skip
        fi
    od;
    assert(taken == ALL);
}

init {
    atomic {
        byte i = 0;
        do
        :: i < SIZE -> turn[i] = 2 * i; i++;
        :: else -> break
        od;
        run putter(0);
        run putter(1);
        run stopping();
        run taker();
    }
}
