/*
 * Numeric addresses. The dummy has a parser of its own, because the core's is among the things
 * under test.
 */
#include <stdlib.h>
#include <string.h>

#include "dummy.h"

static bool read_port(const char *text, uint16_t *port) {
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    *port = (uint16_t)value;
    return *text >= '0' && *text <= '9' && *end == '\0' && value <= 65535;
}

static bool read_ipv4(const char *text, const char *end, uint8_t *ip) {
    for (int i = 0; i < 4; i++) {
        char *next = NULL;
        unsigned long value = strtoul(text, &next, 10);
        if (*text < '0' || *text > '9' || value > 255 || (i < 3 ? *next != '.' : next != end)) {
            return false;
        }
        ip[i] = (uint8_t)value;
        text = next + 1;
    }
    return true;
}

/* Groups of hexadecimal digits with one "::" at most. */
static bool read_ipv6(const char *text, const char *end, uint8_t *ip) {
    uint8_t before[16] = {0};
    uint8_t after[16] = {0};
    size_t have[2] = {0, 0};
    bool gap = false;
    while (text < end) {
        if (text[0] == ':' && text[1] == ':') {
            if (gap) {
                return false;
            }
            gap = true;
            text += 2;
            continue;
        }
        if (*text == ':') {
            text++;
        }
        char *next = NULL;
        unsigned long value = strtoul(text, &next, 16);
        if (next == text || next > end || next - text > 4 || have[0] + have[1] >= 16) {
            return false;
        }
        uint8_t *to = gap ? after + have[1] : before + have[0];
        to[0] = (uint8_t)(value >> 8);
        to[1] = (uint8_t)value;
        have[gap ? 1 : 0] += 2;
        text = next;
    }
    if (gap ? have[0] + have[1] > 14 : have[0] != 16) {
        return false;
    }
    memcpy(ip, before, have[0]);
    memcpy(ip + 16 - have[1], after, have[1]);
    return true;
}

bool address_read(const char *text, tp_address *address) {
    memset(address, 0, sizeof *address);
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        return end != NULL && end[1] == ':' && read_ipv6(text + 1, end, address->ip) &&
               read_port(end + 2, &address->port);
    }
    const char *end = strchr(text, ':');
    address->ip[10] = 0xff;
    address->ip[11] = 0xff;
    return end != NULL && read_ipv4(text, end, address->ip + 12) &&
           read_port(end + 1, &address->port);
}
