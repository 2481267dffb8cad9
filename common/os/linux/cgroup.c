/*
 * The processor quota of the control groups: a container with `--cpus 2` may run on every
 * processor, but only for as much time as two processors have. Any thread; owns nothing.
 *
 * /proc/self/cgroup names the process's group in each hierarchy. /proc/self/mountinfo names the
 * folder where a hierarchy is mounted, and which of its groups is the mount's root. A quota of a
 * group applies to the groups below it too, so all groups are read, from the process's own up to
 * the mount.
 */
#include "os/linux/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096u /* longer paths and lines are skipped */

typedef struct hierarchy {
    bool unified;           /* v2 */
    char group[PATH_SIZE];  /* the process's group, as named in the hierarchy; "": not found */
    char folder[PATH_SIZE]; /* the group's folder */
    size_t mounted;         /* length of the mount's part of `folder`, where the walk up ends */
} hierarchy;

/* ---- files ----------------------------------------------------------------------------------- */

/* Joins two parts of a path. False: the result is too long. */
static bool path_join(char path[PATH_SIZE], const char *first, const char *second) {
    int length = snprintf(path, PATH_SIZE, "%s%s", first, second);
    return length >= 0 && (size_t)length < PATH_SIZE;
}

static FILE *open_below(const char *folder, const char *name) {
    char path[PATH_SIZE];
    return path_join(path, folder, name) ? fopen(path, "re") : NULL;
}

/* Reads the next line, without its end; NULL after the last one. Lines that are too long are
 * skipped. */
static char *next_line(FILE *file, char line[PATH_SIZE]) {
    while (fgets(line, (int)PATH_SIZE, file) != NULL) {
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\n') {
            line[length - 1] = '\0';
            return line;
        }
        if (feof(file)) {
            return line;
        }
        int c;
        do {
            c = fgetc(file);
        } while (c != '\n' && c != EOF);
    }
    return NULL;
}

/* Reads a positive number and the blank behind it. 0 if there is none, as with "max" and -1. */
static uint64_t number_at(const char **text) {
    char *end;
    if (**text < '0' || **text > '9') {
        return 0;
    }
    uint64_t number = strtoull(*text, &end, 10);
    *text = end + (*end == ' ');
    return number;
}

static bool read_line(const char *folder, const char *name, char line[PATH_SIZE]) {
    FILE *file = open_below(folder, name);
    if (file == NULL) {
        return false;
    }
    bool read = next_line(file, line) != NULL;
    (void)fclose(file);
    return read;
}

/* ---- the group's folder ---------------------------------------------------------------------- */

/* True if `word` is one of the words of `list`, which are separated by commas. */
static bool has_word(const char *list, const char *word) {
    size_t length = strlen(word);
    while (*list != '\0') {
        size_t here = strcspn(list, ",");
        if (here == length && memcmp(list, word, length) == 0) {
            return true;
        }
        list += here + (list[here] == ',');
    }
    return false;
}

/* Finds the process's group. A line is like "4:cpu,cpuacct:/group"; of v2: "0::/group". */
static void find_group(const char *root, hierarchy *it) {
    char line[PATH_SIZE];
    FILE *file = open_below(root, "/proc/self/cgroup");
    while (file != NULL && it->group[0] == '\0' && next_line(file, line) != NULL) {
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL || group[1] != '/') {
            continue;
        }
        *group++ = '\0';
        if (it->unified ? strcmp(line, "0:") == 0 : has_word(controllers + 1, "cpu")) {
            (void)path_join(it->group, group, "");
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* Decodes the characters that the kernel writes as a backslash and three octal digits, because they
 * would separate fields. */
static void unescape(char *text) {
    char *to = text;
    while (*text != '\0') {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
            text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
            *to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 4;
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
}

/* The part of `group` below `shown`, the group that is a mount's root. NULL: it is not below it. */
static const char *path_below(const char *group, const char *shown) {
    size_t length = strcmp(shown, "/") == 0 ? 0 : strlen(shown);
    if (strncmp(group, shown, length) != 0 || (group[length] != '/' && group[length] != '\0')) {
        return NULL;
    }
    return strcmp(group + length, "/") == 0 ? "" : group + length;
}

/* Sets the group's folder if the line is a mount that shows the group. A line is
 * "36 31 0:33 SHOWN MOUNTED OPTIONS ... - TYPE SOURCE OPTIONS". */
static bool match_mount(const char *root, char *line, hierarchy *it) {
    char *fields[5];
    char *rest = line;
    char *tail = strstr(line, " - ");
    for (unsigned i = 0; i < 5; i++) {
        fields[i] = strsep(&rest, " ");
    }
    if (tail == NULL || fields[4] == NULL) {
        return false;
    }
    tail += 3;
    const char *type = strsep(&tail, " ");
    (void)strsep(&tail, " ");
    if (it->unified ? strcmp(type, "cgroup2") != 0
                    : strcmp(type, "cgroup") != 0 || tail == NULL || !has_word(tail, "cpu")) {
        return false;
    }
    unescape(fields[3]);
    unescape(fields[4]);
    const char *rest_of_group = path_below(it->group, fields[3]);
    char mounted[PATH_SIZE];
    if (rest_of_group == NULL || !path_join(mounted, root, fields[4])) {
        return false;
    }
    it->mounted = strlen(mounted);
    return path_join(it->folder, mounted, rest_of_group);
}

static bool find_folder(const char *root, hierarchy *it) {
    char line[PATH_SIZE];
    FILE *file = open_below(root, "/proc/self/mountinfo");
    bool found = false;
    while (file != NULL && !found && next_line(file, line) != NULL) {
        found = match_mount(root, line, it);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

/* ---- quotas ---------------------------------------------------------------------------------- */

static unsigned processors_of(uint64_t quota, uint64_t period) {
    if (quota == 0 || period == 0) {
        return 0;
    }
    uint64_t count = quota / period + (quota % period != 0);
    return count < UINT16_MAX ? (unsigned)count : UINT16_MAX;
}

/* "150000 100000" or "max 100000" */
static unsigned quota_of_unified(const char *folder) {
    char line[PATH_SIZE];
    if (!read_line(folder, "/cpu.max", line)) {
        return 0;
    }
    const char *at = line;
    uint64_t quota = number_at(&at);
    return processors_of(quota, number_at(&at));
}

static unsigned quota_of_legacy(const char *folder) {
    char quota[PATH_SIZE];
    char period[PATH_SIZE];
    if (!read_line(folder, "/cpu.cfs_quota_us", quota) ||
        !read_line(folder, "/cpu.cfs_period_us", period)) {
        return 0;
    }
    const char *at_quota = quota;
    const char *at_period = period;
    return processors_of(number_at(&at_quota), number_at(&at_period));
}

/* The smaller of two quotas; 0 means no quota. */
static unsigned smaller(unsigned a, unsigned b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* The smallest quota of the group and those above it, up to the mount. */
static unsigned smallest_up(hierarchy *it) {
    unsigned smallest = 0;
    for (;;) {
        smallest = smaller(
            smallest, it->unified ? quota_of_unified(it->folder) : quota_of_legacy(it->folder));
        char *last = strrchr(it->folder, '/');
        if (strlen(it->folder) <= it->mounted || last == NULL) {
            return smallest;
        }
        *last = '\0';
    }
}

static unsigned quota_in(const char *root, bool unified) {
    hierarchy it = {.unified = unified};
    find_group(root, &it);
    return it.group[0] != '\0' && find_folder(root, &it) ? smallest_up(&it) : 0;
}

unsigned tp_cgroup_processors(const char *root) {
    return smaller(quota_in(root, true), quota_in(root, false));
}
