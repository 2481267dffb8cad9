/* The pool table's existing allocators: glibc's malloc, tp_pool and tp_packet. */
#include "allocator.h"

#include <stdlib.h>
#include <string.h>

#include "twinport/packet.h"
#include "twinport/pool.h"

static size_t size_of_block;

/* ---- malloc ---------------------------------------------------------------------------------- */

static bool open_malloc(size_t block_size) {
    size_of_block = block_size;
    return true;
}

static void *allocate_malloc(void) {
    return malloc(size_of_block);
}

static void close_nothing(void) {
}

const allocator allocator_malloc = {"malloc", open_malloc, allocate_malloc, free, close_nothing};

/* ---- tp_pool --------------------------------------------------------------------------------- */

static tp_pool *pool;

static bool open_pool(size_t block_size) {
    const tp_pool_options options = {
        .size = sizeof options, .name = "bench", .block_size = block_size};
    return tp_pool_create(&options, &pool) == TP_OK;
}

static void *allocate_from_pool(void) {
    return tp_pool_allocate(pool);
}

static void free_to_pool(void *block) {
    tp_pool_free(pool, block);
}

static void close_pool(void) {
    tp_pool_destroy(pool);
}

const allocator allocator_tp_pool = {
    "tp_pool (method 1)", open_pool, allocate_from_pool, free_to_pool, close_pool};

/* ---- tp_packet: a packet of block_size payload bytes, whose first 8 bytes keep its address --- */

static void *allocate_packet(void) {
    tp_packet *packet = tp_packet_new(size_of_block);
    if (packet == NULL) {
        return NULL;
    }
    uint8_t *payload = tp_packet_put_space(packet, size_of_block);
    memcpy(payload, &packet, sizeof packet);
    return payload;
}

static void free_packet(void *payload) {
    tp_packet *packet;
    memcpy(&packet, payload, sizeof packet);
    tp_packet_release(packet);
}

const allocator allocator_tp_packet = {
    "tp_packet", open_malloc, allocate_packet, free_packet, close_nothing};
