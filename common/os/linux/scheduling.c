/*
 * The process's share of the machine: priority and processors. Linux keeps both for each thread,
 * and a new thread inherits those of the thread that started it. Owns nothing.
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

/* One step of nice is a quarter more or less of the processor. Beside a process of nice 0 these are
 * shares of about 1:9, 3:1 and 1:3. */
#define NICE_LOW       10
#define NICE_HIGH      (-5)
#define NICE_OF_THREAD 5 /* added to the nice value of its process */
#define NICE_MOST      19

/* Reads the calling thread's nice value. -1 is a valid value, so errno shows an error. */
static tp_err read_nice(int *nice) {
    errno = 0;
    *nice = getpriority(PRIO_PROCESS, 0);
    return *nice == -1 && errno != 0 ? tp_os_fail_last() : TP_OK;
}

static tp_err write_nice(int nice) {
    return setpriority(PRIO_PROCESS, 0, nice) != 0 ? tp_os_fail_last() : TP_OK;
}

/* ---- policies and slices --------------------------------------------------------------------- */

/* The kernel's struct sched_attr since 3.14 (SCHED_ATTR_SIZE_VER0). Older C libraries
 * have no function for it. */
typedef struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns; /* for the ordinary policies, since 6.12: the slice */
    uint64_t deadline_ns;
    uint64_t period_ns;
} scheduling;

_Static_assert(sizeof(scheduling) == 48, "the kernel's size of the struct");

#define SLICE_NS 100000u /* the shortest that the kernel gives */

/* Reads the calling thread's attributes. */
static tp_err read_scheduling(scheduling *now) {
    *now = (scheduling){.size = sizeof *now};
    return syscall(SYS_sched_getattr, 0, now, sizeof *now, 0) != 0 ? tp_os_fail_last() : TP_OK;
}

/* Sets the calling thread's attributes. TP_ERR_UNSUPPORTED if the system does not know them:
 * kernels and sandboxes return several codes for that. */
static tp_err write_scheduling(scheduling *wanted) {
    wanted->size = sizeof *wanted; /* read_scheduling() has set it to the kernel's size */
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

/* An older kernel accepts the request and ignores it, so the value in force is read back. */
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
        return TP_ERR_UNSUPPORTED; /* an idle thread keeps its slice */
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

/* With the shortest slice, if the kernel has slices. An idle thread gets one three-hundredth of the
 * time of another thread that competes for the processor, and waits after each slice until that
 * ratio is restored: 30 ms after a slice of 0.1 ms, a second after an ordinary slice. */
tp_err tp_thread_go_idle(void) {
    scheduling now;
    (void)tp_thread_ask_low_latency(); /* if it fails, the thread becomes idle anyway */
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
        /* A process started below that stays there; it could not be raised anyway. */
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

_Static_assert(CPU_SETSIZE >= TP_PROCESSORS_MAX, "each processor has its bit in a cpu_set_t");

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
    bool none = errno == EINVAL; /* the process may use none of them */
    tp_err error = tp_os_fail_last();
    return none ? TP_ERR_INVALID : error;
}
