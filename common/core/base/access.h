/*
 * Checks of access lists, for the server's options. Any thread; no state.
 */
#ifndef TWINPORT_CORE_BASE_ACCESS_H
#define TWINPORT_CORE_BASE_ACCESS_H

#include "twinport/address.h"

/* True if the network has at most as many bits as an address. */
bool tp__network_is_valid(const tp_network *network);

#endif
