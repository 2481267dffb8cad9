/*
 * A model of the end of a finishing session (tp__session_finish() in finish.c, flush.c,
 * receive_peer_closed() in receive.c, sweep.c). The end node is queued; everything before it and
 * the end itself are with the system; the peer has ended its stream: the second of the two closes.
 *
 * Late senders: a sender that was admitted before the end began may push behind the end node; other
 * threads push into the queue, and the owner worker (one thread with the flushes) appends to the
 * backlog. The backlog is walked without a check for the end node, as when the WAN's records are
 * filled (seal.c).
 *
 * One thread flushes here. That there is one flusher at a time, on whatever worker, is checked by
 * send_queue.pml.
 *
 * Checked over all interleavings:
 *   - everything queued before the end is sent before it, and nothing behind it;
 *   - nothing is lost: what is not sent is in the backlog or the queue, where the release finds it;
 *   - the session is closed exactly once, without the sweep's help, and never before everything up
 *     to the end node is with the system, unless the sweep cuts it;
 *   - the sweep never takes an end for overdue because it sees the end without its deadline.
 *
 *   BROKEN_LOOK_FIRST  both look at the other's flag before they set their own
 *   BROKEN_DEADLINE    the end is visible before its deadline is
 *   BROKEN_CUT         what was pushed behind the end node gets into the backlog with it
 *   BROKEN_FLAG        the end node is pushed before the end is visible
 *   BROKEN_OWNER       the owner appends to the backlog although the end node is in it
 */

#define SENDERS 2       /* on other threads; the owner is number SENDERS */
#define ALL (SENDERS + 1)
#define END ALL         /* the end node; the others are their senders' numbers */

/* the queue: one word */
bool idle = true;
byte queue[ALL + 1];
byte queued;

/* the flusher's */
byte backlog[ALL + 1];
byte count;
bool end_taken;

bool handed_over;       /* a flush is on its way to the owner */
bool pushed[ALL];
bool due[ALL];          /* pushed before the end node was */
bool sent[ALL];
bool end_sent;

bool end_reached;
bool receive_ended;
bool closing;
byte closes;
bool impatient;         /* the sweep has cut the session */
bool finishing;
bool deadline;          /* of this end: before, the word has its old value */

inline close() {
    atomic {
        if
        :: !closing -> closing = true; closes++;
        :: else -> skip;
        fi
    }
}

/* Pushes into the queue. A push that finds it idle has a flush done. */
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
    bool admitted;
    admitted = !finishing;
    if
    :: admitted -> push(me);
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

/* Takes everything queued at once. What is behind the end node goes back. */
inline collect() {
    if
    :: !end_taken && queued > 0 ->
        d_step {
            taken = queued;
            i = 0;
            do
            :: i < taken -> backlog[count + i] = queue[i]; queue[i] = 0; i++;
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
            :: finishing && i < count && backlog[i] != END -> i++;
            :: else -> break;
            od
            if
            :: finishing && i < count -> end_taken = true; i++;
            :: else -> i = count;
            fi
            first = i;
            do
            :: i < count -> queue[queued] = backlog[i]; queued++; backlog[i] = 0; i++;
            :: else -> break;
            od
            count = first;
        }
#endif
    :: else -> skip;
    fi
}

/* Sends some of the backlog, or all; `end` is whether the last of it was the end node. */
inline fill() {
    d_step {
        i = 0;
        do
        :: i < taken ->
            end = (backlog[i] == END);
            if
            :: end -> end_sent = true;
            :: else -> assert(!end_sent); assert(!sent[backlog[i]]); sent[backlog[i]] = true;
            fi
            i++;
        :: else -> break;
        od
        i = 0;
        do
        :: i < count ->
            if
            :: i + taken < count -> backlog[i] = backlog[i + taken];
            :: else -> backlog[i] = 0;
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

/* The session's owner: queues a packet once, and flushes. */
proctype owner() {
    byte i;
    byte taken;
    byte first;
    bool tried;
    bool admitted;
    bool owner_flushes;
    bool listed;
    bool over;
    bool end;
    bool other;
end_owner:
    do
    :: !tried && !over ->
        tried = true;
        admitted = !finishing;
        if
        :: admitted && !owner_flushes ->
            atomic {
                if
                :: idle -> idle = false; owner_flushes = true; listed = true;
                :: else -> skip;
                fi
            }
        :: else -> skip;
        fi
        if
        :: admitted && !owner_flushes -> push(SENDERS); /* its flush is on the way */
        :: admitted && owner_flushes ->
            collect();
            if
#ifndef BROKEN_OWNER
            :: end_taken -> push(SENDERS);
            :: !end_taken ->
#else
            :: true ->
#endif
                atomic { backlog[count] = SENDERS; count++; pushed[SENDERS] = true; }
            fi
        :: else -> skip;
        fi
    :: handed_over ->
        assert(!owner_flushes);
        handed_over = false;
        owner_flushes = true;
        listed = true;
    :: listed ->
        listed = false;
        if
        :: closing -> over = true; /* without retiring: a closing session is not flushed any more */
        :: else ->
            collect();
            taken = count;
            if
            :: count > 1 -> taken = 1; /* the send batch is full */
            :: true -> skip;
            fi
            fill();
            if
            :: end -> reach_end(); over = true; /* it never retires */
            :: else ->
                atomic {
                    if
                    :: count == 0 && queued == 0 -> idle = true; owner_flushes = false;
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
        run owner(); run sender(0); run sender(1);
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
