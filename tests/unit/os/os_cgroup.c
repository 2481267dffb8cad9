/*
 * The processor quota of control groups, read from files as the kernel writes them, in a folder
 * that the test creates.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "os/linux/cgroup.h"
#include "os/thread.h"

static char root[64];

/* The files and folders that were created, to be removed in reverse order. */
static char made[64][256];
static unsigned made_count;

static const char *remember_path(const char *path) {
    REQUIRE(made_count < sizeof made / sizeof made[0]);
    char *kept = made[made_count++];
    REQUIRE(snprintf(kept, sizeof made[0], "%s%s", root, path) < (int)sizeof made[0]);
    return kept;
}

static void add_folder(const char *path) {
    struct stat there;
    char whole[256];
    REQUIRE(snprintf(whole, sizeof whole, "%s%s", root, path) < (int)sizeof whole);
    if (stat(whole, &there) != 0) {
        REQUIRE(mkdir(remember_path(path), 0700) == 0);
    }
}

static void add_file(const char *path, const char *text) {
    char folder[256];
    for (const char *end = strchr(path + 1, '/'); end != NULL; end = strchr(end + 1, '/')) {
        REQUIRE(snprintf(folder, sizeof folder, "%.*s", (int)(end - path), path) > 0);
        add_folder(folder);
    }
    FILE *file = fopen(remember_path(path), "w");
    REQUIRE(file != NULL);
    REQUIRE(fputs(text, file) >= 0);
    REQUIRE(fclose(file) == 0);
}

static void groups_begin(void) {
    (void)snprintf(root, sizeof root, "/tmp/os_cgroup.XXXXXX");
    made_count = 0;
    REQUIRE(mkdtemp(root) != NULL);
}

/* Returns the quota that the files give, and removes them. */
static unsigned groups_end(void) {
    unsigned processors = tp_cgroup_processors(root);
    while (made_count > 0) {
        CHECK_EQ(remove(made[--made_count]), 0);
    }
    CHECK_EQ(rmdir(root), 0);
    return processors;
}

/* ---- version 2 ------------------------------------------------------------------------------- */

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

static unsigned unified(const char *max) {
    groups_begin();
    add_file("/proc/self/cgroup", "0::/\n");
    add_file("/proc/self/mountinfo", "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT);
    add_file("/sys/fs/cgroup/cpu.max", max);
    return groups_end();
}

static void a_quota_is_whole_processors(void) {
    CHECK_EQ(unified("200000 100000\n"), 2);
    CHECK_EQ(unified("150000 100000\n"), 2); /* one and a half */
    CHECK_EQ(unified("50000 100000\n"), 1);
    CHECK_EQ(unified("1000 100000\n"), 1);
    CHECK_EQ(unified("400000 100000"), 4); /* no end of line */
    CHECK_EQ(unified("18446744073709551615 1\n"), 65535);
}

static void what_is_no_quota(void) {
    CHECK_EQ(unified("max 100000\n"), 0);
    CHECK_EQ(unified(""), 0);
    CHECK_EQ(unified("\n"), 0);
    CHECK_EQ(unified("200000\n"), 0);
    CHECK_EQ(unified("200000 0\n"), 0);
    CHECK_EQ(unified("-1 100000\n"), 0);
    CHECK_EQ(unified("many 100000\n"), 0);
}

static void the_smallest_quota_on_the_way_up_counts(void) {
    groups_begin();
    add_file("/proc/self/cgroup", "0::/games/hub\n");
    add_file("/proc/self/mountinfo", V2_MOUNT);
    add_file("/sys/fs/cgroup/games/hub/cpu.max", "800000 100000\n");
    add_file("/sys/fs/cgroup/games/cpu.max", "300000 100000\n");
    add_file("/sys/fs/cgroup/cpu.max", "max 100000\n");
    CHECK_EQ(groups_end(), 3);
}

/* A container with a part of the hierarchy, in a folder with a blank in its name. */
static void a_mount_may_show_a_part(void) {
    groups_begin();
    add_file("/proc/self/cgroup", "0::/docker/12ab/inner\n");
    add_file("/proc/self/mountinfo",
        "30 23 0:26 /other /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        "31 23 0:26 /docker/12ab /sys/fs/a\\040b rw - cgroup2 cgroup2 rw\n");
    add_file("/sys/fs/a b/inner/cpu.max", "max 100000\n");
    add_file("/sys/fs/a b/cpu.max", "600000 100000\n");
    add_file("/sys/fs/cpu.max", "100000 100000\n"); /* above the mount: does not count */
    CHECK_EQ(groups_end(), 6);
}

/* ---- version 1 ------------------------------------------------------------------------------- */

static unsigned legacy(const char *quota, const char *period) {
    groups_begin();
    add_file("/proc/self/cgroup", "12:cpuset:/x\n4:cpuacct,cpu:/games\n0::/games\n");
    add_file("/proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "34 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    add_file("/sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "1\n");
    add_file("/sys/fs/cgroup/cpu,cpuacct/games/cpu.cfs_quota_us", quota);
    add_file("/sys/fs/cgroup/cpu,cpuacct/games/cpu.cfs_period_us", period);
    add_file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    add_file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    return groups_end();
}

static void version_1_has_two_files(void) {
    CHECK_EQ(legacy("250000\n", "100000\n"), 3);
    CHECK_EQ(legacy("50000\n", "50000\n"), 1);
    CHECK_EQ(legacy("-1\n", "100000\n"), 0);
    CHECK_EQ(legacy("100000\n", "0\n"), 0);
    CHECK_EQ(legacy("", ""), 0);
}

/* ---- none ------------------------------------------------------------------------------------ */

static void without_groups_there_is_no_quota(void) {
    groups_begin();
    CHECK_EQ(groups_end(), 0);
    groups_begin();
    add_file("/proc/self/cgroup", "0::/\nnonsense\n::\n4:cpu\n5:cpu:\n");
    add_file("/proc/self/mountinfo", "30 23\n\n - \n30 23 0:26 / - cgroup2\n31 - - - - - cgroup2");
    CHECK_EQ(groups_end(), 0);
}

/* A line longer than any path is skipped, and the next one is read. */
static void a_line_that_is_too_long_is_skipped(void) {
    static char text[10000];
    memset(text, 'x', 8192);
    (void)snprintf(text + 8192, sizeof text - 8192, " - cgroup2 cgroup2 rw\n%s", V2_MOUNT);
    groups_begin();
    add_file("/proc/self/cgroup", "0::/\n");
    add_file("/proc/self/mountinfo", text);
    add_file("/sys/fs/cgroup/cpu.max", "500000 100000\n");
    CHECK_EQ(groups_end(), 5);
}

/* On this machine, whatever its groups are: at least 1, and no more than the quota. */
static void the_count_keeps_the_quota(void) {
    unsigned quota = tp_cgroup_processors("");
    CHECK_GE(tp_processor_count(), 1);
    CHECK(quota == 0 || tp_processor_count() <= quota);
}

CHECK_MAIN(CASE(a_quota_is_whole_processors), CASE(what_is_no_quota),
    CASE(the_smallest_quota_on_the_way_up_counts), CASE(a_mount_may_show_a_part),
    CASE(version_1_has_two_files), CASE(without_groups_there_is_no_quota),
    CASE(a_line_that_is_too_long_is_skipped), CASE(the_count_keeps_the_quota))
