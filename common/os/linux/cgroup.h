/*
 * How many processors' worth of time the control groups leave this process.
 */
#ifndef TWINPORT_OS_LINUX_CGROUP_H
#define TWINPORT_OS_LINUX_CGROUP_H

/*
 * The smallest quota of the process's group and those around it, rounded up to whole processors;
 * 0: there is none. Both hierarchies count: cpu.max (v2) and cpu.cfs_quota_us (v1). What cannot be
 * read or understood is no quota. `root` stands in front of every path, "" for the system's own; a
 * test has a folder there. Any thread.
 */
unsigned tp_cgroup_processors(const char *root);

#endif
