/*
 * What only Linux provides: the thread's number, the processors allowed, the descriptors open. Any
 * thread; owns nothing.
 */
#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include "os/compiler.h"
#include "os/linux/cgroup.h"
#include "os/process.h"
#include "os/thread.h"

uint64_t tp_thread_id(void) {
    static TP_THREAD_LOCAL uint64_t known;
    if (known == 0) {
        known = (uint64_t)gettid();
    }
    return known;
}

static unsigned count_allowed(void) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        int count = CPU_COUNT(&allowed);
        return count > 0 ? (unsigned)count : 1;
    }
    /* The machine has more processors than a cpu_set_t: their number is good enough. */
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

unsigned tp_processor_count(void) {
    unsigned allowed = count_allowed();
    unsigned quota = tp_cgroup_processors("");
    return quota > 0 && quota < allowed ? quota : allowed;
}

long tp_process_open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return -1;
    }
    long count = 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return count - 1; /* without the descriptor of the folder itself */
}
