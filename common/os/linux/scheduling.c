/*
 * How much of the machine is this process's share: priority and processors. Linux gives both to
 * threads, and a new thread has those of the one that started it. Holds nothing.
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/error.h"
#include "os/process.h"
#include "os/thread.h"

/* A step of nice is a quarter more or less of the processor: these are shares of about 1:9, 3:1 and
 * 1:3. */
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

/* ---- policies and slices --------------------------------------------------------------------- */

/* As the kernel has had it since 3.14 (SCHED_ATTR_SIZE_VER0). C libraries have no call for it, or
 * only lately. */
typedef struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns; /* since 6.12, of the ordinary policies: the slice */
    uint64_t deadline_ns;
    uint64_t period_ns;
} scheduling;

_Static_assert(sizeof(scheduling) == 48, "as the kernel knows it");

#define SLICE_NS 100000u /* the shortest that the kernel gives */

/* The calling thread's. */
static tp_err read_scheduling(scheduling *now) {
    *now = (scheduling){.size = sizeof *now};
    return syscall(SYS_sched_getattr, 0, now, sizeof *now, 0) != 0 ? tp_os_fail_last() : TP_OK;
}

/* What the system does not know is no fault of the caller's: kernels and sandboxes have several
 * words for it. */
static tp_err write_scheduling(scheduling *wanted) {
    wanted->size = sizeof *wanted; /* reading has set it to what the kernel has filled */
    if (syscall(SYS_sched_setattr, 0, wanted, 0) == 0) {
        return TP_OK;
    }
    bool unknown = errno == EINVAL || errno == E2BIG;
    tp_err error = tp_os_fail_last();
    return unknown ? TP_ERR_UNSUPPORTED : error;
}

static bool has_short_slice(const scheduling *now) {
    return now->runtime_ns != 0 && now->runtime_ns <= SLICE_NS;
}

/* An older kernel takes the wish and does not keep it, so what is in force is read again. */
tp_err tp_thread_ask_low_latency(void) {
    scheduling now;
    tp_err error = read_scheduling(&now);
    if (error) {
        return error;
    }
    bool ordinary = now.policy == SCHED_OTHER || now.policy == SCHED_BATCH;
    bool idle = now.policy == SCHED_IDLE;
    if (has_short_slice(&now) || (!ordinary && !idle)) {
        return TP_OK;
    }
    if (idle) {
        return TP_ERR_UNSUPPORTED; /* it keeps the slice that it had before */
    }
    now.runtime_ns = SLICE_NS;
    error = write_scheduling(&now);
    if (!error) {
        error = read_scheduling(&now);
    }
    if (error) {
        return error;
    }
    return has_short_slice(&now) ? TP_OK : TP_ERR_UNSUPPORTED;
}

/* With the shortest slice, if there is one: an idle thread gets a three hundredth of what another
 * gets that wants the processor too, and waits after each slice until that is so again. After 0.1
 * ms that is 30 ms, after an ordinary slice a second. */
tp_err tp_thread_go_idle(void) {
    scheduling now;
    (void)tp_thread_ask_low_latency(); /* without it, it is idle all the same */
    tp_err error = read_scheduling(&now);
    if (error || now.policy == SCHED_IDLE) {
        return error;
    }
    now.policy = SCHED_IDLE;
    now.priority = 0;
    now.runtime_ns = now.deadline_ns = now.period_ns = 0;
    return write_scheduling(&now);
}

/* ---- priorities ------------------------------------------------------------------------------ */

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
    case TP_PRIORITY_IDLE:
        return tp_thread_go_idle();
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
