/*
 * A model of served time (service_time.h): its writer comes back from stalls, and another thread
 * reads it meanwhile, word by word.
 *
 * Checked over all interleavings: what is read is never later than served time is when the reading
 * ends (no session is ended for a stall), and never earlier than it was when the reading began (no
 * deadline that is set from it is too short).
 *
 *   BROKEN_UNTIL_FIRST   the writer stores that it is back before it stores how far it is behind
 *   BROKEN_BEHIND_FIRST  ... and how far it is behind before it stores where served time stands
 *   BROKEN_READ          the reader reads last whether the writer is back
 */

#define GRACE 1
#define ROUNDS  3

byte now = 2;
byte until = 2, behind = 0, stands_at = 0; /* the shared words */
byte all_until = 2, all_behind = 0, all_stands_at = 0; /* the same, changed in one step: the
                                                          truth */

#define STANDS_STILL(u, t) (t > u + GRACE)
#define AT(u, t)           (STANDS_STILL(u, t) -> u + GRACE : t)
#define SERVED(u, b, f, t) ((AT(u, t) > b && AT(u, t) - b > f) -> AT(u, t) - b : f)
#define TRUTH              SERVED(all_until, all_behind, all_stands_at, now)

proctype writer() {
    byte round = 0, served, catch_up;
    do
    :: round == ROUNDS -> break
    :: round < ROUNDS ->
        round++;
        if
        :: now = now + 1
        :: now = now + 4
        fi;
        if
        :: catch_up = 0
        :: catch_up = 2
        fi;
        served = SERVED(until, behind, stands_at, now);
        if
        :: STANDS_STILL(until, now) ->
#ifdef BROKEN_UNTIL_FIRST
            until = now;
#endif
#ifdef BROKEN_BEHIND_FIRST
            behind = now + catch_up - served;
            stands_at = served;
#else
            stands_at = served;
            behind = now + catch_up - served;
#endif
            d_step { all_stands_at = stands_at; all_behind = behind; all_until = now; until = now; }
        :: else ->
            d_step { all_until = now; until = now; }
        fi
    od
}

proctype reader() {
    byte t, u, b, f, before;
    d_step { before = TRUTH; t = now; }
#ifdef BROKEN_READ
    b = behind;
    f = stands_at;
    u = until;
#else
    u = until;
    b = behind;
    f = stands_at;
#endif
    assert(SERVED(u, b, f, t) <= TRUTH);
    assert(SERVED(u, b, f, t) >= before);
}

init {
    atomic { run writer(); run reader(); }
}
