/*
 * Key files. Main thread. What was read is wiped but for what the caller gets.
 */
#include "keys.h"

#include <stdio.h>
#include <string.h>

#define LINE_ROOM 256

/* The line without its comment and its end. */
static void strip(char *line) {
    line[strcspn(line, "#\r\n")] = '\0';
}

bool read_key(const char *path, uint8_t key[TP_KEY_SIZE]) {
    char line[LINE_ROOM] = "";
    FILE *file = fopen(path, "r");
    bool good = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (good) {
        strip(line);
        good = tp_key_parse(line, key);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    tp_secure_wipe(line, sizeof line);
    return good;
}

static bool read_ring_line(const char *line, tp_token_key *key) {
    char text[TP_KEY_TEXT];
    unsigned id = 0;
    char behind = '\0';
    bool good = sscanf(line, "%u %64s %c", &id, text, &behind) == 2 && id <= UINT8_MAX &&
                tp_key_parse(text, key->key);
    key->id = (uint8_t)id;
    tp_secure_wipe(text, sizeof text);
    return good;
}

size_t read_key_ring(const char *path, tp_token_key *ring, size_t room) {
    char line[LINE_ROOM];
    FILE *file = fopen(path, "r");
    size_t count = 0;
    bool good = file != NULL;
    while (good && fgets(line, sizeof line, file) != NULL) {
        strip(line);
        if (line[strspn(line, " \t")] != '\0') {
            good = count < room && read_ring_line(line, &ring[count]);
            count += good;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    tp_secure_wipe(line, sizeof line);
    return good ? count : 0;
}
