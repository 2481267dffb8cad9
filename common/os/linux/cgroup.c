/*
 * The processor quota of the control groups: a container with `--cpus 2` may run on each processor,
 * but for two processors' time only. Any thread; holds nothing.
 *
 * /proc/self/cgroup names the process's group in each hierarchy, /proc/self/mountinfo where a
 * hierarchy is mounted and which of its groups the mount shows as its root. A group above has its
 * own quota, which holds for those in it too: so all are looked at, up to the mount.
 */
#include "os/linux/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_ROOM 4096u /* a longer path or line is skipped */

typedef struct hierarchy {
    bool unified;           /* v2 */
    char group[PATH_ROOM];  /* the process's, as the hierarchy calls it; "": not found */
    char folder[PATH_ROOM]; /* of that group */
    size_t mounted;         /* how much of `folder` is the mount, where the walk up ends */
} hierarchy;

/* ---- files ----------------------------------------------------------------------------------- */

/* False: longer than there is room. */
static bool join(char path[PATH_ROOM], const char *first, const char *second) {
    int length = snprintf(path, PATH_ROOM, "%s%s", first, second);
    return length >= 0 && (size_t)length < PATH_ROOM;
}

static FILE *open_below(const char *folder, const char *name) {
    char path[PATH_ROOM];
    return join(path, folder, name) ? fopen(path, "re") : NULL;
}

/* The next line without its end, NULL after the last. A line that is too long is left out. */
static char *next_line(FILE *file, char line[PATH_ROOM]) {
    while (fgets(line, (int)PATH_ROOM, file) != NULL) {
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

/* A positive number, and the blank behind it; 0: none, "max" and -1 included. */
static uint64_t number_at(const char **text) {
    char *end;
    if (**text < '0' || **text > '9') {
        return 0;
    }
    uint64_t number = strtoull(*text, &end, 10);
    *text = end + (*end == ' ');
    return number;
}

static bool read_line(const char *folder, const char *name, char line[PATH_ROOM]) {
    FILE *file = open_below(folder, name);
    if (file == NULL) {
        return false;
    }
    bool read = next_line(file, line) != NULL;
    (void)fclose(file);
    return read;
}

/* ---- where the group is ---------------------------------------------------------------------- */

/* Is `word` one of the words of `list`, which are separated by commas? */
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

/* Lines as "4:cpu,cpuacct:/group"; v2 has "0::/group". */
static void find_group(const char *root, hierarchy *it) {
    char line[PATH_ROOM];
    FILE *file = open_below(root, "/proc/self/cgroup");
    while (file != NULL && it->group[0] == '\0' && next_line(file, line) != NULL) {
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL || group[1] != '/') {
            continue;
        }
        *group++ = '\0';
        if (it->unified ? strcmp(line, "0:") == 0 : has_word(controllers + 1, "cpu")) {
            (void)join(it->group, group, "");
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* The kernel writes what would separate fields as three octal digits. */
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

/* The part of `group` below `shown`, the group that a mount has as its root; NULL: not below it. */
static const char *below(const char *group, const char *shown) {
    size_t length = strcmp(shown, "/") == 0 ? 0 : strlen(shown);
    if (strncmp(group, shown, length) != 0 || (group[length] != '/' && group[length] != '\0')) {
        return NULL;
    }
    return strcmp(group + length, "/") == 0 ? "" : group + length;
}

/* A line is "36 31 0:33 SHOWN MOUNTED OPTIONS ... - TYPE SOURCE OPTIONS". */
static bool take_mount(const char *root, char *line, hierarchy *it) {
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
    const char *rest_of_group = below(it->group, fields[3]);
    char mounted[PATH_ROOM];
    if (rest_of_group == NULL || !join(mounted, root, fields[4])) {
        return false;
    }
    it->mounted = strlen(mounted);
    return join(it->folder, mounted, rest_of_group);
}

static bool find_folder(const char *root, hierarchy *it) {
    char line[PATH_ROOM];
    FILE *file = open_below(root, "/proc/self/mountinfo");
    bool found = false;
    while (file != NULL && !found && next_line(file, line) != NULL) {
        found = take_mount(root, line, it);
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
    char line[PATH_ROOM];
    if (!read_line(folder, "/cpu.max", line)) {
        return 0;
    }
    const char *at = line;
    uint64_t quota = number_at(&at);
    return processors_of(quota, number_at(&at));
}

static unsigned quota_of_legacy(const char *folder) {
    char quota[PATH_ROOM];
    char period[PATH_ROOM];
    if (!read_line(folder, "/cpu.cfs_quota_us", quota) ||
        !read_line(folder, "/cpu.cfs_period_us", period)) {
        return 0;
    }
    const char *at_quota = quota;
    const char *at_period = period;
    return processors_of(number_at(&at_quota), number_at(&at_period));
}

/* The smaller of two quotas, where 0 is none. */
static unsigned smaller(unsigned a, unsigned b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

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
