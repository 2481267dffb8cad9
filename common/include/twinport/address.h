/*
 * Addresses, networks and access lists.
 */
#ifndef TWINPORT_ADDRESS_H
#define TWINPORT_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * An IP address and TCP port. IPv4 addresses are kept in their IPv6-mapped form (::ffff:a.b.c.d),
 * so that one comparison works for both families.
 */
typedef struct tp_address {
    uint8_t ip[16];    /* network order */
    uint16_t port;     /* host order; 0 asks the system for a free one */
    uint16_t reserved; /* 0 */
    uint32_t scope;    /* IPv6 scope id, 0 for none */
} tp_address;

/* The size of a buffer for every text of tp_address_format(), with its final zero. */
#define TP_ADDRESS_TEXT 64

/*
 * Reads "127.0.0.1:4000", "[::1]:4000", "127.0.0.1" or "::1" (port 0 if none is given).
 * Names are not resolved. TP_OK or TP_ERR_ADDRESS. Any thread.
 */
tp_err tp_address_parse(const char *text, tp_address *address);

/* Writes "a.b.c.d:port" or "[v6]:port" into `text` (TP_ADDRESS_TEXT bytes); returns `text`. */
const char *tp_address_format(const tp_address *address, char *text);

/* Writes the IP address without the port, in the same way. */
const char *tp_address_format_ip(const tp_address *address, char *text);

bool tp_address_equal(const tp_address *a, const tp_address *b);
bool tp_address_is_ipv4(const tp_address *address);
/* 0.0.0.0 or :: */
bool tp_address_is_wildcard(const tp_address *address);
/* Loopback, RFC 1918, link-local or IPv6 unique local: an address that cannot be reached from the
 * Internet. */
bool tp_address_is_private(const tp_address *address);

/* A network: the first `bits` bits of `ip` (0..128; IPv4 networks count from 96). */
typedef struct tp_network {
    uint8_t ip[16];
    uint8_t bits;
} tp_network;

/* Reads "10.0.0.0/8", "::1/128" or a bare address (one host). Bits set after the prefix are an
 * error. TP_OK or TP_ERR_ADDRESS. Any thread. */
tp_err tp_network_parse(const char *text, tp_network *network);
/* False also for a network of more than 128 bits, which contains no address. Any thread. */
bool tp_network_contains(const tp_network *network, const tp_address *address);

/*
 * An access list: denied and allowed networks. An address is admitted if no denied network contains
 * it and, unless the list of allowed networks is empty, one of those contains it. A server copies
 * the list when it is created, and refuses it if a network has more than 128 bits.
 */
#define TP_ACCESS_MAX_NETWORKS 256
typedef struct tp_access {
    size_t size; /* sizeof(tp_access) */
    const tp_network *allow;
    size_t allow_count; /* 0..TP_ACCESS_MAX_NETWORKS; 0 allows every address */
    const tp_network *deny;
    size_t deny_count; /* 0..TP_ACCESS_MAX_NETWORKS */
} tp_access;

/* True if the list admits the address. Any thread. */
bool tp_access_admits(const tp_access *access, const tp_address *address);

/* The private ranges of tp_address_is_private() as networks; `count` receives their number. */
const tp_network *tp_private_networks(size_t *count);

#ifdef __cplusplus
}
#endif
#endif
