/*
 * How many processors' worth of time the control groups allow this process.
 */
#ifndef TWINPORT_OS_LINUX_CGROUP_H
#define TWINPORT_OS_LINUX_CGROUP_H

/*
 * Returns the smallest quota of the process's group and the groups above it, rounded up to whole
 * processors; 0: there is no quota. Both hierarchies count: cpu.max (v2) and cpu.cfs_quota_us (v1).
 * A file that cannot be read or understood sets no quota. `root` is put in front of every path: ""
 * for the system's own files, a folder for a test's. Any thread.
 */
unsigned tp_cgroup_processors(const char *root);

#endif
