/*
 * The file of the private key. One thread; every buffer that has contained the key is wiped.
 */
#include "wanserver/files/key_file.h"

#include <string.h>

#include "core/config/config_report.h"
#include "os/file.h"
#include "wanserver/files/text_file.h"
#include "wanserver/files/words.h"

#define KEY_FILE_MAX 4096u

tp_err tp__key_file_create(const char *path, uint8_t public_key[TP_KEY_SIZE]) {
    tp_key_pair pair;
    char line[TP_KEY_TEXT + 1];
    tp_err error = tp_key_pair_generate(&pair);
    if (error) {
        return error;
    }
    memcpy(public_key, pair.public_key, TP_KEY_SIZE);
    (void)tp_key_format(pair.private_key, line);
    line[TP_KEY_TEXT - 1] = '\n';
    error = tp_file_create_private(path, line, TP_KEY_TEXT);
    tp_secure_wipe(&pair, sizeof pair);
    tp_secure_wipe(line, sizeof line);
    return error;
}

static bool key_file_parse(const tp__text_file *file, uint8_t private_key[TP_KEY_SIZE]) {
    tp__lines lines = tp__lines_of(file->text, file->size);
    tp__word word;
    tp__word more;
    char text[TP_KEY_TEXT];
    bool right = tp__lines_next(&lines, &word, 1) == 1 && tp__lines_next(&lines, &more, 1) == 0 &&
                 tp__word_copy(word, text, sizeof text) && tp_key_parse(text, private_key);
    tp_secure_wipe(text, sizeof text);
    return right;
}

tp_err tp__key_file_load(
    const char *path, uint8_t private_key[TP_KEY_SIZE], char *report, size_t report_size) {
    tp__report wrong = tp__report_begin(report, report_size);
    tp__text_file file;
    tp_err error = tp__text_file_load(path, KEY_FILE_MAX, &file, &wrong);
    if (error) {
        return error;
    }
    if (!key_file_parse(&file, private_key)) {
        tp__report_error(&wrong,
            "%s: not a private key: expected one line of %u hexadecimal digits, as wanserver "
            "--genkey writes it",
            path, 2 * TP_KEY_SIZE);
    }
    tp__text_file_free(&file);
    return tp__report_end(&wrong);
}
