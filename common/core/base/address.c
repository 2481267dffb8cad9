/*
 * Addresses and networks: parsed from text, formatted and compared. Any thread; no state. The
 * system's functions are not used, so that every platform accepts the same texts and no resolver
 * is asked.
 *
 * Accepted: IPv4 as four decimal numbers; IPv6 in every form of RFC 4291 section 2.2 (full, with
 * one "::", with an IPv4 tail) and a numeric scope id after '%'. Errors: characters after the
 * address, and leading zeros in decimal numbers, which other parsers read as octal.
 * Written: the form of RFC 5952; an IPv4-mapped address is written as IPv4.
 */
#include "twinport/address.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define IPV4_OFFSET 12 /* where an IPv4 address begins in its mapped form */

static const uint8_t mapped_prefix[IPV4_OFFSET] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* ---- reading --------------------------------------------------------------------------------- */

/* Each read function parses its element at *at, moves *at past it and returns whether it was well
 * formed. *at never passes the text's final zero. */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int hex_value(char c) {
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

static bool read_decimal(const char **at, uint32_t max, uint32_t *value) {
    const char *first = *at;
    uint64_t sum = 0;
    while (is_digit(**at)) {
        sum = sum * 10 + (uint64_t)(**at - '0');
        if (sum > max) {
            return false;
        }
        ++*at;
    }
    *value = (uint32_t)sum;
    size_t digits = (size_t)(*at - first);
    return digits == 1 || (digits > 1 && *first != '0');
}

static bool read_ipv4(const char **at, uint8_t *bytes) {
    for (unsigned i = 0; i < 4; i++) {
        uint32_t value;
        if (i > 0 && *(*at)++ != '.') {
            return false;
        }
        if (!read_decimal(at, 255, &value)) {
            return false;
        }
        bytes[i] = (uint8_t)value;
    }
    return true;
}

/* One group of an IPv6 address: one to four hexadecimal digits. */
static bool read_group(const char **at, uint8_t *bytes) {
    unsigned value = 0;
    unsigned digits = 0;
    while (digits < 4 && hex_value(**at) >= 0) {
        value = value * 16 + (unsigned)hex_value(**at);
        ++*at;
        digits++;
    }
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
    return digits > 0 && hex_value(**at) < 0;
}

/* True if a '.' follows the digits at `at`: an IPv4 address begins there, not a group. */
static bool at_ipv4(const char *at) {
    while (is_digit(*at)) {
        at++;
    }
    return *at == '.';
}

/* Groups separated by ':', up to the first character that belongs to none. `gap`: the offset of
 * "::" in `bytes`. */
static bool read_ipv6(const char **at, uint8_t *ip) {
    uint8_t bytes[16] = {0};
    size_t used = 0;
    size_t gap = sizeof bytes + 1; /* none */

    if ((*at)[0] == ':' && (*at)[1] == ':') {
        *at += 2;
        gap = 0;
    }
    bool more = gap != 0 || hex_value(**at) >= 0;
    while (more) {
        if (at_ipv4(*at)) {
            if (used > sizeof bytes - 4 || !read_ipv4(at, bytes + used)) {
                return false;
            }
            used += 4;
            break;
        }
        if (used > sizeof bytes - 2 || !read_group(at, bytes + used)) {
            return false;
        }
        used += 2;
        if ((*at)[0] == ':' && (*at)[1] == ':') {
            if (gap <= sizeof bytes) {
                return false; /* a second "::" */
            }
            *at += 2;
            gap = used;
            more = hex_value(**at) >= 0;
        } else if ((*at)[0] == ':') {
            ++*at;
        } else {
            more = false;
        }
    }
    if (gap > sizeof bytes) {
        memcpy(ip, bytes, sizeof bytes);
        return used == sizeof bytes;
    }
    /* "::" stands for at least one group of zeros. */
    if (used > sizeof bytes - 2) {
        return false;
    }
    assert(gap <= used);
    size_t tail = used - gap;
    memset(ip, 0, sizeof bytes);
    memcpy(ip, bytes, gap);
    memcpy(ip + sizeof bytes - tail, bytes + gap, tail);
    return true;
}

static bool is_mapped(const uint8_t *ip) {
    return memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0;
}

/* An IP without port or scope. The character after the leading digits decides the family: '.' is
 * IPv4. */
static bool read_ip(const char **at, uint8_t *ip) {
    if (at_ipv4(*at)) {
        memcpy(ip, mapped_prefix, sizeof mapped_prefix);
        return read_ipv4(at, ip + IPV4_OFFSET);
    }
    return read_ipv6(at, ip);
}

static bool read_scope(const char **at, tp_address *address) {
    if (**at != '%') {
        return true;
    }
    ++*at;
    return read_decimal(at, UINT32_MAX, &address->scope) && address->scope != 0 &&
           !is_mapped(address->ip);
}

static bool read_port(const char **at, tp_address *address) {
    uint32_t port;
    if (**at != ':') {
        return true;
    }
    ++*at;
    if (!read_decimal(at, UINT16_MAX, &port)) {
        return false;
    }
    address->port = (uint16_t)port;
    return true;
}

static bool read_address(const char *at, tp_address *address) {
    if (*at == '[') {
        at++;
        if (at_ipv4(at) || !read_ipv6(&at, address->ip) || !read_scope(&at, address) ||
            *at++ != ']') {
            return false;
        }
        return read_port(&at, address) && *at == '\0';
    }
    if (at_ipv4(at)) {
        return read_ip(&at, address->ip) && read_port(&at, address) && *at == '\0';
    }
    /* Without brackets every ':' belongs to the address. */
    return read_ipv6(&at, address->ip) && read_scope(&at, address) && *at == '\0';
}

tp_err tp_address_parse(const char *text, tp_address *address) {
    tp_address found = {.port = 0};
    if (text == NULL || address == NULL) {
        return TP_ERR_ADDRESS;
    }
    if (!read_address(text, &found)) {
        return TP_ERR_ADDRESS;
    }
    *address = found;
    return TP_OK;
}

static bool host_bits_are_zero(const tp_network *network) {
    assert(network->bits <= 128);
    for (unsigned bit = network->bits; bit < 128; bit++) {
        if (network->ip[bit / 8] & (0x80u >> (bit % 8))) {
            return false;
        }
    }
    return true;
}

tp_err tp_network_parse(const char *text, tp_network *network) {
    tp_network found;
    if (text == NULL || network == NULL) {
        return TP_ERR_ADDRESS;
    }
    bool ipv4 = at_ipv4(text);
    uint32_t bits = ipv4 ? 32 : 128;
    if (!read_ip(&text, found.ip)) {
        return TP_ERR_ADDRESS;
    }
    if (*text == '/') {
        text++;
        if (!read_decimal(&text, bits, &bits)) {
            return TP_ERR_ADDRESS;
        }
    }
    found.bits = (uint8_t)(ipv4 ? bits + 96 : bits);
    if (*text != '\0' || !host_bits_are_zero(&found)) {
        return TP_ERR_ADDRESS;
    }
    *network = found;
    return TP_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static unsigned group(const uint8_t *ip, unsigned index) {
    assert(index < 8);
    return (unsigned)ip[2 * index] << 8 | ip[2 * index + 1];
}

/* The longest run of zero groups, the first of equals; runs of one are not shortened. */
static unsigned longest_zero_run(const uint8_t *ip, unsigned *length) {
    unsigned best = 8;
    *length = 1;
    for (unsigned i = 0; i < 8; i++) {
        unsigned end = i;
        while (end < 8 && group(ip, end) == 0) {
            end++;
        }
        if (end - i > *length) {
            best = i;
            *length = end - i;
        }
        if (end > i) {
            i = end - 1;
        }
    }
    return best;
}

/* Writes the IP to `text`, which is large enough, and returns the end of what was written. */
static char *write_ip(const tp_address *address, char *text) {
    const uint8_t *ip = address->ip;
    if (is_mapped(ip)) {
        const uint8_t *v4 = ip + IPV4_OFFSET;
        return text + snprintf(text, 16, "%u.%u.%u.%u", v4[0], v4[1], v4[2], v4[3]);
    }
    unsigned length;
    unsigned gap = longest_zero_run(ip, &length);
    for (unsigned i = 0; i < 8; i++) {
        if (i == gap) {
            *text++ = ':';
            i += length - 1;
            if (i == 7) {
                *text++ = ':';
            }
            continue;
        }
        text += snprintf(text, 6, i == 0 ? "%x" : ":%x", group(ip, i));
    }
    if (address->scope != 0) {
        text += snprintf(text, 12, "%%%lu", (unsigned long)address->scope);
    }
    *text = '\0';
    return text;
}

const char *tp_address_format_ip(const tp_address *address, char *text) {
    (void)write_ip(address, text);
    return text;
}

const char *tp_address_format(const tp_address *address, char *text) {
    char *at = text;
    bool ipv4 = is_mapped(address->ip);
    if (!ipv4) {
        *at++ = '[';
    }
    at = write_ip(address, at);
    assert(at < text + TP_ADDRESS_TEXT - 7);
    (void)snprintf(at, 8, ipv4 ? ":%u" : "]:%u", (unsigned)address->port);
    return text;
}

/* ---- comparing ------------------------------------------------------------------------------- */

bool tp_address_equal(const tp_address *a, const tp_address *b) {
    return memcmp(a->ip, b->ip, sizeof a->ip) == 0 && a->port == b->port && a->scope == b->scope;
}

bool tp_address_is_ipv4(const tp_address *address) {
    return is_mapped(address->ip);
}

bool tp_address_is_wildcard(const tp_address *address) {
    static const uint8_t zero[16];
    size_t from = is_mapped(address->ip) ? IPV4_OFFSET : 0;
    return memcmp(address->ip + from, zero, sizeof address->ip - from) == 0;
}
