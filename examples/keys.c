/*
 * Key files. Main thread. Every copy of a key is wiped, except the one in the caller's buffer.
 */
#include "keys.h"

#include <stdio.h>
#include <string.h>

#define LINE_SIZE 256

static FILE *open_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        (void)setvbuf(file, NULL, _IONBF, 0); /* no buffer that would keep a copy of the key */
    }
    return file;
}

/* Skips the rest of a line that is longer than the buffer: no key, but perhaps a comment. */
static void skip_rest(FILE *file, const char line[LINE_SIZE]) {
    int c = strchr(line, '\n') == NULL ? fgetc(file) : '\n';
    while (c != '\n' && c != EOF) {
        c = fgetc(file);
    }
}

/* Reads the next line that is not empty, without its comment and the blanks around it. False: none
 * is left. */
static bool next_line(FILE *file, char line[LINE_SIZE]) {
    while (fgets(line, LINE_SIZE, file) != NULL) {
        skip_rest(file, line);
        line[strcspn(line, "#\r\n")] = '\0';
        size_t begin = strspn(line, " \t");
        size_t size = strlen(line + begin);
        memmove(line, line + begin, size + 1);
        while (size > 0 && (line[size - 1] == ' ' || line[size - 1] == '\t')) {
            line[--size] = '\0';
        }
        if (size > 0) {
            return true;
        }
    }
    return false;
}

static void close_file(FILE *file, char line[LINE_SIZE]) {
    tp_secure_wipe(line, LINE_SIZE);
    if (file != NULL) {
        (void)fclose(file);
    }
}

bool read_key(const char *path, uint8_t key[TP_KEY_SIZE]) {
    char line[LINE_SIZE];
    FILE *file = open_file(path);
    bool good = file != NULL && next_line(file, line) && tp_key_parse(line, key);
    close_file(file, line);
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

size_t read_key_ring(const char *path, tp_token_key *ring, size_t capacity) {
    char line[LINE_SIZE];
    size_t count = 0;
    FILE *file = open_file(path);
    bool good = file != NULL;
    while (good && next_line(file, line)) {
        good = count < capacity && read_ring_line(line, &ring[count]);
        count += good;
    }
    close_file(file, line);
    return good ? count : 0;
}
