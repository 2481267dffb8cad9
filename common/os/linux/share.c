/*
 * How much of the machine is this process's share: priority and processors. Linux gives both to threads, and
 * a new thread has those of the one that started it. Holds nothing.
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "os/error.h"
#include "os/process.h"
#include "os/thread.h"

/* A step of nice is a quarter more or less of the processor: these are shares of about 1:9, 3:1 and 1:3. */
#define NICE_LOW       10
#define NICE_HIGH      (-5)
#define NICE_OF_THREAD 5 /* below the rest of its process */
#define NICE_MOST      19

/* The calling thread's nice value. -1 is one, too: errno tells. */
static tp_err read_nice(int *nice) {
    errno = 0;
    *nice = getpriority(PRIO_PROCESS, 0);
    return *nice == -1 && errno != 0 ? tp_os_fail_last() : TP_OK;
}

static tp_err write_nice(int nice) {
    return setpriority(PRIO_PROCESS, 0, nice) != 0 ? tp_os_fail_last() : TP_OK;
}

tp_err tp_thread_lower_priority(void) {
    int nice;
    tp_err error = read_nice(&nice);
    if (error || nice >= NICE_MOST) {
        return error;
    }
    nice += NICE_OF_THREAD;
    return write_nice(nice < NICE_MOST ? nice : NICE_MOST);
}

tp_err tp_process_set_priority(tp_priority priority) {
    int nice;
    tp_err error = read_nice(&nice);
    if (error) {
        return error;
    }
    switch (priority) {
    case TP_PRIORITY_LOW:
        /* Whoever started it at less meant that, and it could not be raised anyway. */
        return nice < NICE_LOW ? write_nice(NICE_LOW) : TP_OK;
    case TP_PRIORITY_NORMAL:
        return TP_OK;
    case TP_PRIORITY_HIGH:
        return nice > NICE_HIGH ? write_nice(NICE_HIGH) : TP_OK;
    }
    return TP_ERR_INVALID;
}

_Static_assert(CPU_SETSIZE >= TP_PROCESSORS_MAX, "every processor that can be named has its bit");

tp_err tp_process_set_processors(const tp_processors *processors) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < TP_PROCESSORS_MAX; i++) {
        if (processors->bits[i / 64] >> i % 64 & 1) {
            CPU_SET(i, &set);
        }
    }
    if (sched_setaffinity(0, sizeof set, &set) == 0) {
        return TP_OK;
    }
    bool none = errno == EINVAL; /* none is there that this process may use */
    tp_err error = tp_os_fail_last();
    return none ? TP_ERR_INVALID : error;
}
