/*
 * Addresses as text: parsing, printing and equality, from tables of texts, from random addresses,
 * and from texts with random changes.
 */
#include <string.h>

#include "check.h"
#include "twinport/address.h"

/* Texts that are read, and how each is printed: as RFC 5952 requires. */
static const struct {
    const char *text;
    const char *written;
} good[] = {
    {"127.0.0.1:4000", "127.0.0.1:4000"},
    {"127.0.0.1", "127.0.0.1:0"},
    {"0.0.0.0:0", "0.0.0.0:0"},
    {"255.255.255.255:65535", "255.255.255.255:65535"},
    {"::", "[::]:0"},
    {"[::]:1", "[::]:1"},
    {"::1", "[::1]:0"},
    {"[::1]:4000", "[::1]:4000"},
    {"[::1]", "[::1]:0"},
    {"1::", "[1::]:0"},
    {"2001:db8::1", "[2001:db8::1]:0"},
    {"2001:DB8::ABCD", "[2001:db8::abcd]:0"},
    {"2001:0db8:0000:0000:0000:0000:0000:0001", "[2001:db8::1]:0"},
    {"1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]:0"},
    {"1:2:3:4:5:6:7::", "[1:2:3:4:5:6:7:0]:0"},
    {"::2:3:4:5:6:7:8", "[0:2:3:4:5:6:7:8]:0"},
    {"1:2:3::5:6:7:8", "[1:2:3:0:5:6:7:8]:0"},
    /* The longest run of zero groups is shortened, the first of two equal ones; a single zero group
     * never. */
    {"2001:db8:0:0:1:0:0:1", "[2001:db8::1:0:0:1]:0"},
    {"2001:0:0:1:0:0:0:1", "[2001:0:0:1::1]:0"},
    {"2001:db8:0:1:1:1:1:1", "[2001:db8:0:1:1:1:1:1]:0"},
    {"1:0:0:0:0:0:0:0", "[1::]:0"},
    {"0:0:0:0:0:0:0:1", "[::1]:0"},
    {"0:0:3:4:5:6:0:0", "[::3:4:5:6:0:0]:0"},
    {"1:2:3:4:5:6:0:0", "[1:2:3:4:5:6::]:0"},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:0"},
    /* IPv4 in IPv6. */
    {"::ffff:10.1.2.3", "10.1.2.3:0"},
    {"[::ffff:10.1.2.3]:80", "10.1.2.3:80"},
    {"::ffff:0a01:0203", "10.1.2.3:0"},
    {"0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4:0"},
    {"64:ff9b::192.0.2.33", "[64:ff9b::c000:221]:0"},
    {"1:2:3:4:5:6:1.2.3.4", "[1:2:3:4:5:6:102:304]:0"},
    {"::1.2.3.4", "[::102:304]:0"},
    /* Scope ids. */
    {"fe80::1%3", "[fe80::1%3]:0"},
    {"[fe80::1%4294967295]:65535", "[fe80::1%4294967295]:65535"},
};

static const char *const bad[] = {
    "",
    " ",
    "a",
    "localhost",
    ":",
    ":::",
    ".",
    "1",
    "1.2",
    "1.2.3",
    "1.2.3.",
    "1.2.3.4.",
    "1.2.3.4.5",
    ".1.2.3.4",
    "1..2.3",
    "256.1.1.1",
    "1.2.3.256",
    "1.2.3.1000",
    "01.2.3.4",
    "1.2.3.04",
    "00.0.0.0",
    "0x7f.0.0.1",
    "1.2.3.-4",
    "+1.2.3.4",
    "1.2.3.4 ",
    " 1.2.3.4",
    "1.2.3.4a",
    "1.2.3.4:",
    "1.2.3.4:65536",
    "1.2.3.4:99999999999999999999",
    "1.2.3.4:080",
    "1.2.3.4:00",
    "1.2.3.4:-1",
    "1.2.3.4:80 ",
    "1.2.3.4:80:80",
    "1.2.3.4:a",
    "1.2.3.4%1",
    "1.2.3.4/8",
    "[1.2.3.4]:80",
    "[1.2.3.4]",
    ":1",
    "1:",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8:",
    ":1:2:3:4:5:6:7:8",
    "::1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7:8::",
    "1:2:3:4::5:6:7:8",
    "1::2::3",
    "::1::",
    "1:::2",
    ":::1",
    "1::2:",
    "12345::",
    "::00001",
    "::g",
    "::1.2.3",
    "::1.2.3.4.5",
    "::1.2.3.4:5",
    "::1.2.3.256",
    "::01.2.3.4",
    "1.2.3.4::",
    "1:2:3:4:5:6:7:1.2.3.4",
    "1:2:3:4:5:1.2.3.4",
    "::1%",
    "::1%0",
    "::1%01",
    "::1%eth0",
    "::1%4294967296",
    "::1%1%1",
    "::ffff:1.2.3.4%1",
    "[::1",
    "::1]",
    "[]",
    "[]:80",
    "[::1]80",
    "[::1]:",
    "[::1]:65536",
    "[::1]:80x",
    "[[::1]]:80",
    "[ ::1]:80",
    "[::1%1:80",
    "[::1]%1:80",
    "::1 ",
    "::1\n",
    "::1/128",
};

static void valid_texts_are_read_and_written(void) {
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        tp_address address;
        char text[TP_ADDRESS_TEXT];
        if (tp_address_parse(good[i].text, &address) != TP_OK) {
            CHECK_STR("is not read", good[i].text);
            continue;
        }
        CHECK_STR(tp_address_format(&address, text), good[i].written);
        CHECK_EQ(address.reserved, 0);
    }
}

static void invalid_texts_are_refused(void) {
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tp_address address;
        memset(&address, 0x5a, sizeof address);
        tp_address before = address;
        if (tp_address_parse(bad[i], &address) != TP_ERR_ADDRESS) {
            CHECK_STR("is read", bad[i]);
        }
        CHECK_MEM(&address, &before, sizeof address);
    }
    tp_address address;
    CHECK_EQ(tp_address_parse(NULL, &address), TP_ERR_ADDRESS);
    CHECK_EQ(tp_address_parse("::1", NULL), TP_ERR_ADDRESS);
}

/* The text ends where its memory ends: the address sanitizer reports a read behind it. */
static void nothing_behind_the_end_of_a_text_is_read(void) {
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        for (size_t length = 0; length <= strlen(good[i].text); length++) {
            char *text = malloc(length + 1);
            REQUIRE(text != NULL);
            memcpy(text, good[i].text, length);
            text[length] = '\0';
            tp_address address;
            tp_network network;
            (void)tp_address_parse(text, &address);
            (void)tp_network_parse(text, &network);
            free(text);
        }
    }
}

static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void any_address_survives_the_round_trip(void) {
    uint32_t seed = 2463534242u;
    size_t longest = 0;
    for (unsigned round = 0; round < 200000; round++) {
        tp_address address = {.port = (uint16_t)next_random(&seed)};
        /* Zero groups are common in addresses and rare in random numbers, so half of the groups are
         * cleared. */
        for (unsigned i = 0; i < 16; i += 2) {
            uint32_t value = next_random(&seed);
            if ((value & 0x10000) != 0) {
                address.ip[i] = (uint8_t)(value >> 8 & (value & 0x20000 ? 0xff : 0));
                address.ip[i + 1] = (uint8_t)value;
            }
        }
        if (round % 4 == 0) {
            memset(address.ip, 0, 10);
            memset(address.ip + 10, 0xff, 2);
        } else if (round % 4 == 1) {
            address.scope = next_random(&seed);
        }
        if (tp_address_is_ipv4(&address)) {
            address.scope = 0;
        }
        char text[TP_ADDRESS_TEXT];
        char again[TP_ADDRESS_TEXT];
        tp_address read = {.port = 1};
        tp_address_format(&address, text);
        longest = strlen(text) > longest ? strlen(text) : longest;
        CHECK_EQ(tp_address_parse(text, &read), TP_OK);
        CHECK(tp_address_equal(&address, &read));
        CHECK_STR(tp_address_format(&read, again), text);

        uint16_t port = address.port;
        address.port = 0;
        CHECK_EQ(tp_address_parse(tp_address_format_ip(&address, text), &read), TP_OK);
        CHECK(tp_address_equal(&address, &read));
        address.port = port;
    }
    CHECK_LT(longest, TP_ADDRESS_TEXT);
}

static void changed_texts_are_refused_or_read_as_they_are(void) {
    static const char alphabet[] = "0123456789abcdefF:.[]%/ x";
    uint32_t seed = 88172645u;
    for (unsigned round = 0; round < 200000; round++) {
        char text[TP_ADDRESS_TEXT];
        char written[TP_ADDRESS_TEXT];
        const char *from = good[round % (sizeof good / sizeof good[0])].text;
        size_t length = strlen(from);
        memcpy(text, from, length + 1);
        unsigned changes = 1 + next_random(&seed) % 3;
        while (changes-- > 0 && length > 0) {
            text[next_random(&seed) % length] =
                alphabet[next_random(&seed) % (sizeof alphabet - 1)];
        }
        tp_address first;
        tp_address second;
        if (tp_address_parse(text, &first) == TP_OK) {
            CHECK_EQ(tp_address_parse(tp_address_format(&first, written), &second), TP_OK);
            CHECK(tp_address_equal(&first, &second));
        }
    }
}

static tp_address address_of(const char *text) {
    tp_address address;
    if (tp_address_parse(text, &address) != TP_OK) {
        CHECK_STR("is not read", text);
        memset(&address, 0, sizeof address);
    }
    return address;
}

static void equality_compares_every_field(void) {
    tp_address a = address_of("[fe80::1%1]:80");
    tp_address b = a;
    CHECK(tp_address_equal(&a, &b));
    b.port = 81;
    CHECK(!tp_address_equal(&a, &b));
    b = a;
    b.scope = 2;
    CHECK(!tp_address_equal(&a, &b));
    b = a;
    b.ip[15] = 2;
    CHECK(!tp_address_equal(&a, &b));
}

static void families_and_wildcards_are_recognised(void) {
    tp_address a = address_of("0.0.0.0:1");
    CHECK(tp_address_is_ipv4(&a));
    CHECK(tp_address_is_wildcard(&a));
    a = address_of("::");
    CHECK(!tp_address_is_ipv4(&a));
    CHECK(tp_address_is_wildcard(&a));
    a = address_of("0.0.0.1");
    CHECK(tp_address_is_ipv4(&a));
    CHECK(!tp_address_is_wildcard(&a));
    a = address_of("::1");
    CHECK(!tp_address_is_ipv4(&a));
    CHECK(!tp_address_is_wildcard(&a));
    a = address_of("::fffe:0:0");
    CHECK(!tp_address_is_wildcard(&a));
}

CHECK_MAIN(CASE(valid_texts_are_read_and_written), CASE(invalid_texts_are_refused),
    CASE(nothing_behind_the_end_of_a_text_is_read), CASE(any_address_survives_the_round_trip),
    CASE(changed_texts_are_refused_or_read_as_they_are), CASE(equality_compares_every_field),
    CASE(families_and_wildcards_are_recognised))
