/*
 * What the server's options check of an access list. Any thread; nothing is kept.
 */
#ifndef TWINPORT_CORE_BASE_ACCESS_H
#define TWINPORT_CORE_BASE_ACCESS_H

#include "twinport/address.h"

/* Has it no more bits than an address? */
bool tp__network_is_whole(const tp_network *network);

#endif
