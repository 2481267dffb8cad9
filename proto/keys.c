/*
 * Key pairs and their text. Any thread; the caller owns the pair and wipes it.
 */
#include "proto/keys.h"

#include <string.h>

#include "proto/secure_internal.h"

tp_err tp_key_pair_generate(tp_key_pair *pair) {
    tp_err error = tp__agree_generate(pair->private_key, pair->public_key);
    if (error) {
        tp_secure_wipe(pair, sizeof *pair);
    }
    return error;
}

tp_err tp_key_pair_from_private(const uint8_t private_key[TP_KEY_SIZE], tp_key_pair *pair) {
    memmove(pair->private_key, private_key, TP_KEY_SIZE);
    tp_err error = tp__agree_public(pair->private_key, pair->public_key);
    if (error) {
        tp_secure_wipe(pair, sizeof *pair);
    }
    return error;
}

char *tp_key_format(const uint8_t key[TP_KEY_SIZE], char text[TP_KEY_TEXT]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < TP_KEY_SIZE; i++) {
        text[2 * i] = digits[key[i] >> 4];
        text[2 * i + 1] = digits[key[i] & 15];
    }
    text[2 * TP_KEY_SIZE] = '\0';
    return text;
}

static int digit_value(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

bool tp_key_parse(const char *text, uint8_t key[TP_KEY_SIZE]) {
    bool right = strlen(text) == TP_KEY_TEXT - 1;
    for (size_t i = 0; right && i < TP_KEY_SIZE; i++) {
        int high = digit_value(text[2 * i]);
        int low = digit_value(text[2 * i + 1]);
        right = high >= 0 && low >= 0;
        key[i] = (uint8_t)(right ? high << 4 | low : 0);
    }
    if (!right) {
        tp_secure_wipe(key, TP_KEY_SIZE);
    }
    return right;
}
