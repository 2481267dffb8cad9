/*
 * A model of what any worker may take (os/linux/epoll_shared.c, epoll_ready.c). A poster raises
 * `waiting` and then wakes one worker that has announced that it is asleep; a worker announces it
 * and then reads `waiting` before it sleeps. One of the workers may block for good whenever it runs
 * something.
 *
 * Checked over all interleavings: when nothing moves any more, nothing waits.
 *
 *   BROKEN_LOOK_FIRST  the worker reads `waiting` only before it announces that it sleeps
 *   BROKEN_CALL_FIRST  the poster looks for a sleeping worker before it raises `waiting`
 *   BROKEN_ONE         the poster gives up when another thread has woken the worker that it chose
 */

#define WORKERS 3
#define POSTS   2

bool asleep[WORKERS]; /* the word `posts` is ASLEEP */
bool alarm[WORKERS];
byte waiting;
byte blocked;

inline call() {
    do
    :: atomic { /* the choice: a read */
        if
        :: asleep[0] -> chosen = 0;
        :: asleep[1] -> chosen = 1;
        :: asleep[2] -> chosen = 2;
        :: !asleep[0] && !asleep[1] && !asleep[2] -> break;
        fi
       }
       atomic { /* the compare-exchange */
        woken = asleep[chosen];
        asleep[chosen] = false;
       }
       if
       :: woken -> alarm[chosen] = true; break;
#ifdef BROKEN_ONE
       :: !woken -> break;
#else
       :: !woken -> skip;
#endif
       fi
    od
}

proctype poster() {
    byte chosen;
    bool woken;
#ifdef BROKEN_CALL_FIRST
    call();
    waiting++;
#else
    waiting++;
    call();
#endif
}

inline take() {
    atomic { took = waiting > 0; if :: took -> waiting--; :: else -> skip; fi }
    if
    :: took ->
        if
        :: atomic { blocked == 0 -> blocked = 1; }
           goto stuck;
        :: skip;
        fi
    :: else -> skip;
    fi
}

proctype worker(byte me) {
    bool took;
again:
    take();
    if
    :: took -> goto again;
    :: else -> skip;
    fi
    asleep[me] = true;
#ifndef BROKEN_LOOK_FIRST
    if
    :: waiting > 0 -> asleep[me] = false; goto again;
    :: else -> skip;
    fi
#endif
end:
    alarm[me];
    alarm[me] = false;
    asleep[me] = false;
    goto again;
stuck:
    skip;
}

init {
    atomic {
        run worker(0); run worker(1); run worker(2);
        byte i;
        for (i : 1 .. POSTS) { run poster(); }
    }
    timeout;
    assert(waiting == 0);
}
