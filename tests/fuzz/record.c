/*
 * A stream of records as an attacker on the path can make it: any bytes, and sealed records, whole
 * or changed, in order or not. A record that opens is the one that was sealed next, and after the
 * first one that does not open no other one does.
 *
 *     byte 0: suite in bit 0, REKEY interval 1, 2, 4 or 8 in bits 1 and 2
 *     steps of  byte 0: the action (bits 0, 1) and n (bits 2..7)
 *         0   seal n + 1 bytes more, to be delivered later
 *         1   deliver the oldest sealed record
 *         2   the same with the byte at position n xored with the next byte of the input
 *         3   deliver the next n bytes of the input
 */
#include "fuzz.h"

#include <string.h>

#include "proto/keys.h"
#include "proto/record.h"
#include "tests/record_rules.h"

#define WAITING 16u
#define PLAIN   64u

typedef struct sealed {
    uint8_t plain[PLAIN];
    uint8_t record[TP_RECORD_OVERHEAD + PLAIN];
    size_t size; /* of the plaintext */
} sealed;

static tp_record_direction sealing;
static tp_record_direction opening;
static sealed waiting[WAITING]; /* a ring buffer: from `taken` to `made` */
static unsigned made;
static unsigned taken;
static bool missing; /* the next sealed record was not delivered unchanged */
static bool lost;    /* a record did not open */

static void seal(size_t size) {
    if (made - taken == WAITING) {
        return;
    }
    sealed *s = &waiting[made % WAITING];
    s->size = size;
    memset(s->plain, (int)(made & 0xff), size);
    memcpy(s->record + TP_RECORD_HEADER, s->plain, size);
    REQUIRE(tp_record_seal(&sealing, s->record, size) == TP_OK);
    REQUIRE(tp_record_length(s->record) == size + TP_SECRET_TAG);
    made++;
}

/* `right`: the record that these bytes should be if they open; NULL: none. */
static void deliver(const uint8_t *bytes, size_t size, const sealed *right) {
    static uint8_t plain[TP_RECORD_PLAIN_MAX];
    size_t length = size < TP_RECORD_HEADER ? 0 : tp_record_length(bytes);
    if (length == 0 || length > size - TP_RECORD_HEADER) {
        return; /* a protocol error, or incomplete */
    }
    memset(plain, 0x5a, length - TP_SECRET_TAG);
    uint8_t *copy = malloc(length); /* of exact size, so that a read behind it is reported */
    REQUIRE(copy != NULL);
    memcpy(copy, bytes + TP_RECORD_HEADER, length);
    tp_err error = tp_record_open(&opening, copy, length, plain);
    free(copy);
    if (lost) {
        REQUIRE(error == TP_ERR_STATE);
    } else if (right != NULL && !missing) {
        REQUIRE(error == TP_OK);
        REQUIRE(memcmp(plain, right->plain, right->size) == 0);
    } else {
        REQUIRE(error == TP_ERR_AUTH);
        for (size_t i = 0; i < length - TP_SECRET_TAG; i++) {
            REQUIRE(plain[i] == 0);
        }
    }
    lost = lost || error != TP_OK;
}

static void deliver_oldest(size_t place, uint8_t mask) {
    if (made == taken) {
        return;
    }
    const sealed *s = &waiting[taken++ % WAITING];
    uint8_t bytes[sizeof s->record];
    size_t size = s->size + TP_RECORD_OVERHEAD;
    memcpy(bytes, s->record, size);
    bytes[place % size] ^= mask;
    deliver(bytes, size, mask == 0 ? s : NULL);
    missing = missing || mask != 0; /* whether it was refused or only waits for more bytes */
}

static size_t do_step(const uint8_t *data, size_t size) {
    size_t n = data[0] >> 2;
    switch (data[0] & 3) {
    case 0:
        seal(n + 1);
        return 1;
    case 1:
        deliver_oldest(0, 0);
        return 1;
    case 2:
        deliver_oldest(n, size > 1 ? data[1] : 1);
        return 2;
    default:
        n = n < size - 1 ? n : size - 1;
        deliver(data + 1, n, NULL);
        return 1 + n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tp_key_pair pair; /* random, made once */
    static bool drawn;
    if (size < 1) {
        return 0;
    }
    if (!drawn) {
        drawn = true;
        REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    }
    tp_suite suite = data[0] & 1 ? TP_SUITE_CHACHA20_POLY1305 : TP_SUITE_AES_256_GCM;
    test_record_rekey_interval(UINT64_C(1) << (data[0] >> 1 & 3));
    REQUIRE(tp_record_create_sealing(&sealing, suite, pair.private_key) == TP_OK);
    REQUIRE(tp_record_create_opening(&opening, suite, pair.private_key) == TP_OK);
    made = taken = 0;
    missing = lost = false;
    for (size_t at = 1; at < size;) {
        at += do_step(data + at, size - at);
    }
    tp_record_destroy(&sealing);
    tp_record_destroy(&opening);
    return 0;
}
