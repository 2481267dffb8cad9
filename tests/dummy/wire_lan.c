/*
 * The LAN's wire: the frames as they are.
 */
#include "wire.h"

static bool nothing_needed(connection *c) {
    (void)c;
    return true;
}

static void nothing_kept(connection *c) {
    (void)c;
}

static void connected(connection *c) {
    if (!c->shard->load->options->mode->reads_late) {
        connection_read(c);
    }
    connection_establish(c);
}

static size_t unchanged(connection *c, size_t used, bool raw) {
    (void)c;
    (void)raw;
    return used;
}

const wire wire_lan = {
    .name = "lan",
    .limit = TP_FRAME_DEFAULT_LIMIT,
    .batch = SIZE_MAX,
    .make = nothing_needed,
    .free = nothing_kept,
    .begin = nothing_needed,
    .connected = connected,
    .take = connection_take,
    .wrap = unchanged,
    .end = nothing_kept,
};
