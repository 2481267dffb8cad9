/*
 * The key ring's file: which lines are read, the error text of each wrong line, and that parsing
 * leaves no key in memory. Keys are random; none is written here.
 */
#include "check.h"

#include "core/config/config.h"
#include "core/memory/memory.h"
#include "os/process.h"
#include "os/random.h"
#include "proto/keys.h"
#include "wanserver/files/key_ring_file.h"

static tp__key_ring ring;
static char report[TP__CONFIG_REPORT];
static char a[TP_KEY_TEXT]; /* two keys, as text */
static char b[TP_KEY_TEXT];

static void draw(char text[TP_KEY_TEXT]) {
    uint8_t key[TP_KEY_SIZE];
    tp_random_bytes(key, sizeof key);
    (void)tp_key_format(key, text);
}

static void draw_keys(void) {
    draw(a);
    draw(b);
}

static tp_err parse(const char *text) {
    return tp__key_ring_parse("ring", text, strlen(text), &ring, report, sizeof report);
}

/* A text with keys in place of its %s. */
static const char *with_keys(const char *format, const char *first, const char *second) {
    static char text[1024];
    char *at = text;
    const char *keys[] = {first, second};
    unsigned used = 0;
    for (; *format != '\0'; format++) {
        if (*format == '$') {
            at += strlen(strcpy(at, keys[used++ % 2]));
        } else {
            *at++ = *format;
        }
    }
    *at = '\0';
    return text;
}

static void check_key(unsigned id, const char *text) {
    char found[TP_KEY_TEXT];
    const tp_token_key *key = tp__key_ring_find(&ring, id);
    CHECK(key != NULL);
    if (key != NULL) {
        CHECK_EQ(key->id, id);
        CHECK_STR(tp_key_format(key->key, found), text);
    }
}

static void keys_are_read(void) {
    draw_keys();
    CHECK_EQ(
        parse(with_keys("\xef\xbb\xbf# the ring\r\n\r\n  0 $\r\n\t255\t$ # the new one\n#", a, b)),
        TP_OK);
    CHECK_STR(report, "");
    CHECK_EQ(ring.count, 2);
    check_key(0, a);
    check_key(255, b);
    CHECK(tp__key_ring_find(&ring, 1) == NULL);
    tp__key_ring_wipe(&ring);
    CHECK_EQ(ring.count, 0);
    CHECK(tp__key_ring_find(&ring, 0) == NULL);

    CHECK_EQ(parse(with_keys("7 $#the last line has no end", a, b)), TP_OK);
    CHECK_EQ(ring.count, 1);
    check_key(7, a);
    for (char *digit = a; *digit != '\0'; digit++) { /* capital digits are accepted, too */
        *digit = (char)(*digit >= 'a' ? *digit - 'a' + 'A' : *digit);
    }
    CHECK_EQ(parse(with_keys("7 $\n", a, b)), TP_OK);
    CHECK_EQ(ring.count, 1);
}

static bool is_wiped(void) {
    const uint8_t *bytes = (const uint8_t *)&ring;
    for (size_t i = 0; i < sizeof ring; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static void wrong_lines_are_named(void) {
    static const struct {
        const char *text;
        const char *wanted;
    } wrong[] = {
        {"", "ring:1: no key is given"},
        {"\n# nothing\n", "ring:2: no key is given"},
        {"1 $\n\n256 $\n", "ring:3: expected an id from 0 to 255"},
        {"-1 $\n", "ring:1: expected an id"},
        {"1x $\n", "ring:1: expected an id"},
        {"99999999999999999999999 $\n", "ring:1: expected an id"},
        {"1\n", "ring:1: expected an id"},
        {"$\n", "ring:1: expected an id"},
        {"1 $0\n", "ring:1: expected an id"},
        {"1 $ $\n", "ring:1: expected an id"},
        {"1 $\n1 $\n",
            "ring:2: id 1 is given again: expected once, and line 1 has it with another"},
        {"1 0000000000000000000000000000000000000000000000000000000000000000\n",
            "ring:1: the key of id 1 is zero"},
        {"1 000000000000000000000000000000000000000000000000000000000000000g\n",
            "ring:1: expected an id"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        draw_keys();
        memset(&ring, 0x5a, sizeof ring);
        CHECK_EQ(parse(with_keys(wrong[i].text, a, b)), TP_ERR_CONFIG);
        if (strncmp(report, wrong[i].wanted, strlen(wrong[i].wanted)) != 0) {
            CHECK_STR(report, wrong[i].wanted);
        }
        CHECK(strstr(report, a) == NULL && strstr(report, b) == NULL);
        CHECK_EQ(ring.count, 0);
    }
    draw_keys();
    CHECK_EQ(parse(with_keys("1 $\n2 $\nwrong\n3\n", a, b)), TP_ERR_CONFIG);
    CHECK(strstr(report, "ring:3: ") != NULL && strstr(report, "ring:4: ") != NULL);
    CHECK(is_wiped());
}

/* Harmless, but the operator should know of it. */
static void a_key_under_two_ids_gives_a_warning(void) {
    draw_keys();
    CHECK_EQ(parse(with_keys("1 $\n2 $\n\n1 $\n", a, b)), TP_OK);
    CHECK_STR(report, "ring:4: id 1 is given again, with the same key: line 1 has it");
    CHECK_EQ(ring.count, 2);
    check_key(1, a);
    check_key(2, b);
    CHECK_EQ(parse(with_keys("1 $\n2 $\n1 $\n1 $\n", a, b)), TP_ERR_CONFIG);
    CHECK_STR(
        report, "ring:4: id 1 is given again: expected once, and line 1 has it with another key");
    CHECK(is_wiped());
}

static void all_256_ids_can_have_a_key(void) {
    static char text[TP__KEY_RING_MAX * (TP_KEY_TEXT + 8) + TP_KEY_TEXT + 8];
    static char keys[TP__KEY_RING_MAX][TP_KEY_TEXT];
    size_t size = 0;
    for (unsigned id = 0; id < TP__KEY_RING_MAX; id++) {
        draw(keys[id]);
        size += (size_t)snprintf(text + size, sizeof text - size, "%u %s\n", id, keys[id]);
    }
    CHECK_EQ(parse(text), TP_OK);
    CHECK_EQ(ring.count, TP__KEY_RING_MAX);
    for (unsigned id = 0; id < TP__KEY_RING_MAX; id++) {
        check_key(id, keys[id]);
    }
    draw(a);
    (void)snprintf(text + size, sizeof text - size, "3 %s\n", a);
    CHECK_EQ(parse(text), TP_ERR_CONFIG);
    CHECK_STR(
        report, "ring:257: id 3 is given again: expected once, and line 4 has it with another key");
    CHECK(is_wiped());
}

static void a_zero_byte_does_not_end_the_ring(void) {
    draw_keys();
    char text[2 + TP_KEY_TEXT];
    (void)snprintf(text, sizeof text, "1 %s", a);
    text[sizeof text - 2] = '\0'; /* in place of the last digit */
    CHECK_EQ(tp__key_ring_parse("ring", text, sizeof text - 1, &ring, report, sizeof report),
        TP_ERR_CONFIG);
}

/* ---- from files ------------------------------------------------------------------------------ */

static const char *path_of_test(void) {
    static char path[64];
    (void)snprintf(path, sizeof path, "key_ring-%" PRIu64 ".tmp", tp_process_id());
    return path;
}

static void write_test_file(const char *text, size_t size) {
    FILE *file = fopen(path_of_test(), "wb");
    REQUIRE(file != NULL);
    CHECK_EQ(fwrite(text, 1, size, file), size);
    CHECK_EQ(fclose(file), 0);
}

static tp_err load(void) {
    return tp__key_ring_load(path_of_test(), &ring, report, sizeof report);
}

static void files_are_read(void) {
    uint64_t live = tp__memory_live();
    (void)remove(path_of_test());
    CHECK_EQ(load(), TP_ERR_NO_FILE);
    CHECK(strstr(report, path_of_test()) != NULL);

    draw_keys();
    const char *text = with_keys("1 $\n2 $\n", a, b);
    write_test_file(text, strlen(text));
    CHECK_EQ(load(), TP_OK);
    CHECK_EQ(ring.count, 2);
    check_key(2, b);

    tp__memory_fail_after(1);
    CHECK_EQ(load(), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    CHECK_EQ(ring.count, 0);
    CHECK_NE(report[0], '\0');

    text = with_keys("1 $\n1 $\n", a, b);
    write_test_file(text, strlen(text));
    CHECK_EQ(load(), TP_ERR_CONFIG);
    CHECK(strstr(report, ":2: id 1 is given again") != NULL);

    static char large[TP__KEY_RING_MAX_FILE + 1];
    memset(large, '#', sizeof large);
    write_test_file(large, sizeof large);
    CHECK_EQ(load(), TP_ERR_TOO_LARGE);
    CHECK_NE(report[0], '\0');
    CHECK_EQ(remove(path_of_test()), 0);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(keys_are_read), CASE(wrong_lines_are_named),
    CASE(a_key_under_two_ids_gives_a_warning), CASE(all_256_ids_can_have_a_key),
    CASE(a_zero_byte_does_not_end_the_ring), CASE(files_are_read))
