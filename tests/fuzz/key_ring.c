/*
 * The key ring's parser: for any text the result is a complete ring, or an error and no ring, and
 * no error text quotes a key.
 */
#include "fuzz.h"

#include <string.h>

#include "proto/keys.h"
#include "wanserver/files/key_ring_file.h"

static tp__key_ring ring;

/* The longest run of hexadecimal digits in a text. */
static size_t longest_run(const char *text) {
    size_t longest = 0;
    while (*text != '\0') {
        size_t run = strspn(text, "0123456789abcdefABCDEF");
        longest = run > longest ? run : longest;
        text += run + (text[run] != '\0');
    }
    return longest;
}

/* An accepted ring, written again, is read as the same. */
static void check_accepted(void) {
    static char text[TP__KEY_RING_MAX * (TP_KEY_TEXT + 8)];
    static tp__key_ring again;
    char report[256];
    size_t size = 0;
    REQUIRE(ring.count >= 1 && ring.count <= TP__KEY_RING_MAX);
    for (size_t i = 0; i < ring.count; i++) {
        char key[TP_KEY_TEXT];
        REQUIRE(tp__key_ring_find(&ring, ring.keys[i].id) == &ring.keys[i]); /* no id twice */
        size += (size_t)snprintf(text + size, sizeof text - size, "%u %s\n", ring.keys[i].id,
            tp_key_format(ring.keys[i].key, key));
    }
    REQUIRE(tp__key_ring_parse("again", text, size, &again, report, sizeof report) == TP_OK);
    REQUIRE(again.count == ring.count);
    for (size_t i = 0; i < ring.count; i++) {
        REQUIRE(memcmp(&again.keys[i], &ring.keys[i], sizeof ring.keys[i]) == 0);
    }
}

static void check_refused(void) {
    static const tp__key_ring wiped;
    REQUIRE(memcmp(&ring, &wiped, sizeof ring) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Buffers of all sizes, so that the sanitizer watches each end. */
    size_t capacity = 1 + size * 7 % 1500;
    char *report = malloc(capacity);
    char *text = malloc(size + 1);
    REQUIRE(report != NULL && text != NULL);
    memcpy(text, data, size);
    memset(&ring, 0, sizeof ring);
    tp_err error = tp__key_ring_parse("fuzz", text, size, &ring, report, capacity);
    REQUIRE(error == TP_OK || error == TP_ERR_CONFIG);
    REQUIRE(memchr(report, '\0', capacity) != NULL);
    REQUIRE(capacity == 1 || error == TP_OK || report[0] != '\0');
    REQUIRE(longest_run(report) < 16);
    if (error == TP_OK) {
        check_accepted();
    } else {
        check_refused();
    }
    free(text);
    free(report);
    return 0;
}
