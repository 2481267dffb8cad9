/*
 * Linux only: how the system schedules a thread, and a filter that makes the system refuse to
 * change it. Needs _GNU_SOURCE.
 */
#ifndef TWINPORT_TESTS_SCHEDULING_H
#define TWINPORT_TESTS_SCHEDULING_H

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHORTEST_SLICE_NS 100000u

typedef struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns; /* 0 where the kernel does not report it */
    uint64_t rest[2];
} scheduling;

/* Of the thread with this system id; 0: the calling thread. */
static inline scheduling scheduling_of(long thread) {
    scheduling now = {.size = sizeof now};
    REQUIRE(syscall(SYS_sched_getattr, thread, &now, sizeof now, 0) == 0);
    return now;
}

/* The process's threads whose names begin with `name`. Returns how many there are. */
static inline unsigned threads_named(const char *name, long *threads, unsigned room) {
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/task");
    REQUIRE(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[320];
        char said[32] = "";
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL) {
            continue; /* "." and "..", or a thread that has just ended */
        }
        bool read = fgets(said, sizeof said, file) != NULL;
        (void)fclose(file);
        if (read && strncmp(said, name, strlen(name)) == 0) {
            REQUIRE(count < room);
            threads[count++] = strtol(entry->d_name, NULL, 10);
        }
    }
    (void)closedir(folder);
    return count;
}

/* From now on sched_setattr() fails with `error` in the calling thread and in those that it
 * starts. */
static inline void refuse_scheduling(int error) {
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setattr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof steps / sizeof steps[0], .filter = steps};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

#endif
