/*
 * A model of how a finishing session ends (finish.c tp__session_finish, flush.c, receive.c
 * peer_closed, sweep.c): the end node is queued, all before it and the end itself are with the
 * system, and the peer has said its last: the second of the two closes.
 *
 * Late senders: who was let in before the end began may push behind the end node, from other
 * threads into the queue, at home (one thread with the flushes) to what is pending. What is
 * pending is walked without a look for the end node, as the WAN's records are filled (seal.c).
 *
 * One thread flushes here. That there is one flush owner at a time, on whatever workers, is the
 * matter of send_queue.pml.
 *
 * Checked over all interleavings:
 *   - all that was queued before the end is sent before it, and nothing behind it;
 *   - nothing is lost: what is not sent is pending or queued, and the release finds it there;
 *   - the session is closed exactly once, without the sweep's help, and never before its last
 *     words are with the system unless the sweep loses patience;
 *   - the sweep never takes an end for overdue because it sees the end without its deadline.
 *
 * BROKEN_LOOK_FIRST  both look at the other's flag before they set their own
 * BROKEN_DEADLINE    the end is visible before its deadline is
 * BROKEN_CUT         what was pushed behind the end node becomes pending with it
 * BROKEN_FLAG        the end node is pushed before the end is visible
 * BROKEN_HOME        home appends to what is pending although the end node is there
 */

#define SENDERS 2       /* on other threads; home is number SENDERS */
#define ALL (SENDERS + 1)
#define END ALL         /* the end node; the others are their senders' numbers */

/* the queue: one word */
bool idle = true;
byte queue[ALL + 1];
byte queued;

/* the flush owner's */
byte pending[ALL + 1];
byte count;
bool end_taken;

bool handed_over;       /* a flush is on its way to home */
bool pushed[ALL];
bool due[ALL];          /* pushed before the end node was */
bool sent[ALL];
bool end_sent;

bool end_reached;
bool receive_ended;
bool closing;
byte closes;
bool impatient;         /* the sweep has cut it */
bool finishing;
bool deadline;          /* of this end: before, the word holds what was there */

inline close() {
    atomic {
        if
        :: !closing -> closing = true; closes++;
        :: else -> skip;
        fi
    }
}

/* Into the queue. Whoever finds it idle has a flush done. */
inline push(node) {
    atomic {
        queue[queued] = node;
        queued++;
        if
        :: node == END -> due[0] = pushed[0]; due[1] = pushed[1]; due[2] = pushed[2];
        :: else -> pushed[node] = true;
        fi
        if
        :: idle -> idle = false; assert(!handed_over); handed_over = true;
        :: else -> skip;
        fi
    }
}

proctype sender(byte me) {
    bool let_in;
    let_in = !finishing;
    if
    :: let_in -> push(me);
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
#endif
#ifdef BROKEN_FLAG
    push(END);
    finishing = true;
#else
    finishing = true;
    push(END);
#endif
}

/* Takes all that is queued at once. What is behind the end node goes back. */
inline collect() {
    if
    :: !end_taken && queued > 0 ->
        d_step {
            taken = queued;
            i = 0;
            do
            :: i < taken -> pending[count + i] = queue[i]; queue[i] = 0; i++;
            :: else -> break;
            od
            queued = 0;
            first = count;
            count = count + taken;
        }
#ifndef BROKEN_CUT
        d_step {
            i = first;
            do
            :: finishing && i < count && pending[i] != END -> i++;
            :: else -> break;
            od
            if
            :: finishing && i < count -> end_taken = true; i++;
            :: else -> i = count;
            fi
            first = i;
            do
            :: i < count -> queue[queued] = pending[i]; queued++; pending[i] = 0; i++;
            :: else -> break;
            od
            count = first;
        }
#endif
    :: else -> skip;
    fi
}

/* Sends some of what is pending, or all; `end` is whether the last of it was the end node. */
inline fill() {
    d_step {
        i = 0;
        do
        :: i < taken ->
            end = (pending[i] == END);
            if
            :: end -> end_sent = true;
            :: else -> assert(!end_sent); assert(!sent[pending[i]]); sent[pending[i]] = true;
            fi
            i++;
        :: else -> break;
        od
        i = 0;
        do
        :: i < count ->
            if
            :: i + taken < count -> pending[i] = pending[i + taken];
            :: else -> pending[i] = 0;
            fi
            i++;
        :: else -> break;
        od
        count = count - taken;
    }
}

inline reach_end() {
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

/* The session's home: says something itself, once, and flushes. */
proctype home() {
    byte i;
    byte taken;
    byte first;
    bool said;
    bool let_in;
    bool owned;
    bool listed;
    bool over;
    bool end;
    bool other;
end_home:
    do
    :: !said && !over ->
        said = true;
        let_in = !finishing;
        if
        :: let_in && !owned ->
            atomic {
                if
                :: idle -> idle = false; owned = true; listed = true;
                :: else -> skip;
                fi
            }
        :: else -> skip;
        fi
        if
        :: let_in && !owned -> push(SENDERS); /* its flush is on the way */
        :: let_in && owned ->
            collect();
            if
#ifndef BROKEN_HOME
            :: end_taken -> push(SENDERS);
            :: !end_taken ->
#else
            :: true ->
#endif
                atomic { pending[count] = SENDERS; count++; pushed[SENDERS] = true; }
            fi
        :: else -> skip;
        fi
    :: handed_over ->
        assert(!owned);
        handed_over = false;
        owned = true;
        listed = true;
    :: listed ->
        listed = false;
        if
        :: closing -> over = true; /* still the owner: nobody flushes a closing session */
        :: else ->
            collect();
            taken = count;
            if
            :: count > 1 -> taken = 1; /* the flight is full */
            :: true -> skip;
            fi
            fill();
            if
            :: end -> reach_end(); over = true; /* it never retires */
            :: else ->
                atomic {
                    if
                    :: count == 0 && queued == 0 -> idle = true; owned = false;
                    :: else -> listed = true;
                    fi
                }
            fi
        fi
    od
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
    byte i;
    byte left;
    atomic {
        run home(); run sender(0); run sender(1);
        run finisher(); run receiver(); run sweep();
    }
    (timeout);
    assert(closing && closes == 1);
    assert(impatient || end_sent);
    d_step {
        i = 0;
        do
        :: i < ALL ->
            assert(impatient || !due[i] || sent[i]);
            if
            :: pushed[i] && !sent[i] -> left++;
            :: else -> skip;
            fi
            i++;
        :: else -> break;
        od
        if
        :: !end_sent -> left++;
        :: else -> skip;
        fi
    }
    assert(left == count + queued);
}
