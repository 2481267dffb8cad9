/*
 * The gate's private key file: it is created once, read again, and everything that is no key file
 * is refused with a message that quotes no key.
 */
#include "check.h"

#include "core/config/config.h"
#include "os/process.h"
#include "wanserver/files/key_file.h"

static char report[TP__CONFIG_REPORT];

static const char *path_of_test(void) {
    static char path[64];
    (void)snprintf(path, sizeof path, "key_file-%" PRIu64 ".tmp", tp_process_id());
    return path;
}

static void write_test_file(const char *text, size_t size) {
    FILE *file = fopen(path_of_test(), "wb");
    REQUIRE(file != NULL);
    CHECK_EQ(fwrite(text, 1, size, file), size);
    CHECK_EQ(fclose(file), 0);
}

static void a_created_key_file_is_read_again(void) {
    uint8_t public_key[2][TP_KEY_SIZE];
    uint8_t read[TP_KEY_SIZE];
    tp_key_pair pair;
    (void)remove(path_of_test());
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(tp__key_file_create(path_of_test(), public_key[i]) == TP_OK);
        CHECK_EQ(tp__key_file_load(path_of_test(), read, report, sizeof report), TP_OK);
        CHECK_STR(report, "");
        REQUIRE(tp_key_pair_from_private(read, &pair) == TP_OK);
        CHECK_MEM(pair.public_key, public_key[i], TP_KEY_SIZE);
        /* The file exists, so it is not created again. */
        uint8_t other[TP_KEY_SIZE];
        CHECK_EQ(tp__key_file_create(path_of_test(), other), TP_ERR_STATE);
        CHECK_EQ(tp__key_file_load(path_of_test(), other, report, sizeof report), TP_OK);
        CHECK_MEM(other, read, TP_KEY_SIZE);
        CHECK_EQ(remove(path_of_test()), 0);
    }
    CHECK(memcmp(public_key[0], public_key[1], TP_KEY_SIZE) != 0);
    CHECK_EQ(tp__key_file_create("no such folder/key", read), TP_ERR_NO_FILE);
    tp_secure_wipe(&pair, sizeof pair);
}

static void anything_but_a_key_file_is_refused(void) {
    tp_key_pair pair;
    char key[TP_KEY_TEXT];
    char text[4 * TP_KEY_TEXT];
    uint8_t read[TP_KEY_SIZE];
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    (void)tp_key_format(pair.private_key, key);
    CHECK_EQ(tp__key_file_load(path_of_test(), read, report, sizeof report), TP_ERR_NO_FILE);
    CHECK_NE(report[0], '\0');

    static const char *const good[] = {"$", "$\r\n", "# a comment\n\n\t$ # and another\n\n"};
    static const char *const bad[] = {"", "\n", "$$\n", "$ $\n", "$\n$\n", "#$\n", "$0\n", "x$\n"};
    for (unsigned i = 0; i < 3 + 8; i++) {
        const char *format = i < 3 ? good[i] : bad[i - 3];
        char *at = text;
        for (; *format != '\0'; format++) {
            if (*format == '$') {
                at += strlen(strcpy(at, key));
            } else {
                *at++ = *format;
            }
        }
        write_test_file(text, (size_t)(at - text));
        CHECK_EQ(tp__key_file_load(path_of_test(), read, report, sizeof report),
            i < 3 ? TP_OK : TP_ERR_CONFIG);
        CHECK(strstr(report, key) == NULL); /* the key itself is never quoted */
        if (i < 3) {
            CHECK_MEM(read, pair.private_key, TP_KEY_SIZE);
        } else {
            CHECK(strstr(report, "not a private key") != NULL);
        }
    }
    static char large[4097];
    memset(large, '\n', sizeof large);
    write_test_file(large, sizeof large);
    CHECK_EQ(tp__key_file_load(path_of_test(), read, report, sizeof report), TP_ERR_TOO_LARGE);
    CHECK_EQ(remove(path_of_test()), 0);
}

CHECK_MAIN(CASE(a_created_key_file_is_read_again), CASE(anything_but_a_key_file_is_refused))
