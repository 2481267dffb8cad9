/*
 * A model of how a finishing session ends (gather.c reach_end, receive.c peer_closed, sweep.c): its last
 * words are with the system, and the peer has said its last: the second of the two closes.
 *
 * Checked over all interleavings: the session is closed exactly once, without the sweep's help, and never
 * before its last words are with the system unless the sweep loses patience.
 *
 * And that the sweep never takes an end for overdue because it sees the end without its deadline.
 *
 * BROKEN_LOOK_FIRST  both look at the other's flag before they set their own
 * BROKEN_DEADLINE    the end is visible before its deadline is
 */

bool end_reached;
bool receive_ended;
bool closing;
byte closes;
bool impatient; /* the sweep has cut it */
bool finishing;
bool deadline; /* of this end: before, the word holds what was there */

inline close() {
    atomic {
        if
        :: !closing -> closing = true; closes++;
        :: else -> skip;
        fi
    }
}

proctype flush_owner() {
    bool other;
#ifdef BROKEN_LOOK_FIRST
    other = receive_ended;
    end_reached = true;
#else
    end_reached = true;
    other = receive_ended;
#endif
    if
    :: other -> close();
    :: else -> skip;
    fi
}

proctype receiver() {
    bool other;
#ifdef BROKEN_LOOK_FIRST
    other = end_reached;
    receive_ended = true;
#else
    receive_ended = true;
    other = end_reached;
#endif
    if
    :: other -> assert(end_reached); close();
    :: else -> skip;
    fi
}

/* tp__session_finish() */
proctype finisher() {
#ifdef BROKEN_DEADLINE
    finishing = true;
    deadline = true;
#else
    deadline = true;
    finishing = true;
#endif
}

/* The life word is read before the deadline. */
proctype sweep() {
    bool seen;
    seen = finishing;
    if
    :: seen -> assert(deadline);
    :: else -> skip;
    fi
    if
    :: seen -> atomic { impatient = true; } close();
    :: skip;
    fi
}

init {
    atomic { run finisher(); run flush_owner(); run receiver(); run sweep(); }
    (_nr_pr == 1);
    assert(closing && closes == 1);
}
