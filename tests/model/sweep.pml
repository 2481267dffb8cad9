/*
 * A model of when the next sweep is due (sweep_set_next() in sweep.c) beside the beginning of a
 * stop (begin_stop() in server_run.c), which needs one at once.
 *
 * Checked over all interleavings: once the stop has been asked for, a sweep has seen it, or one is
 * due within a stop's tick, not only within a running server's, which is ten times as long.
 *
 *   BROKEN_LOOK_FIRST  the sweep reads the state before it sets the time
 *   BROKEN_TIME_FIRST  the stop sets the time before the state
 */

#define NOW  0
#define SOON 1 /* a stop's tick */
#define LATE 2 /* a running server's */

byte due = LATE;
bool stopping;
bool seen; /* a sweep has driven the stop */

proctype sweep() {
    bool stop;
#ifdef BROKEN_LOOK_FIRST
    stop = stopping;
    if
    :: stop -> due = SOON; seen = true;
    :: else -> due = LATE;
    fi
#else
    due = LATE;
    stop = stopping;
    if
    :: stop -> due = SOON; seen = true;
    :: else -> skip;
    fi
#endif
}

proctype stopper() {
#ifdef BROKEN_TIME_FIRST
    due = NOW;
    stopping = true;
#else
    stopping = true;
    due = NOW;
#endif
}

init {
    atomic { run sweep(); run stopper(); }
    (_nr_pr == 1);
    assert(seen || due < LATE);
}
