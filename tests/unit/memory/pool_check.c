/*
 * A pool's invariants hold while it is used, and tp__pool_check(), tp__pool_check_unused(),
 * tp__stack_check() and tp__chunk_check() find each one that is broken: every case breaks one field
 * after another, looks, and repairs it.
 */
#include "check.h"
#include "check_finds.h"

#include "core/memory/block.h"
#include "core/memory/chunk.h"

enum { BLOCKS = 300, IN_USE = 3 };

static tp_pool *pool;
static void *blocks[BLOCKS];

static const char *found(void) {
    tp_mutex_lock(&pool->mutex);
    const char *broken = tp__pool_check(pool);
    tp_mutex_unlock(&pool->mutex);
    return text_of(broken);
}

static const char *found_unused(void) {
    return text_of(tp__pool_check_unused(pool));
}

/* Sets a field to a wrong value and repairs it. `look`: a call that returns what a check finds. */
#define CHECK_FOUND(type, field, wrong, look, text)                                                \
    CHECK_FINDS_VALUE(look, text, type, field, wrong)

/* A pool with blocks in use, in this thread's magazines and in those of the depot. */
static void open_pool(void) {
    const tp_pool_options options = {.size = sizeof options, .name = "test", .block_size = 1000};
    REQUIRE(tp_pool_create(&options, &pool) == TP_OK);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = tp_pool_allocate(pool);
        REQUIRE(blocks[i] != NULL);
    }
    for (size_t i = IN_USE; i < BLOCKS; i++) {
        tp_pool_free(pool, blocks[i]);
    }
    CHECK_STR(found(), "");
    CHECK_STR(found_unused(), "");
}

static void close_pool(void) {
    for (size_t i = 0; i < IN_USE; i++) {
        tp_pool_free(pool, blocks[i]);
    }
    CHECK_STR(found_unused(), "");
    tp_pool_destroy(pool);
}

static void the_check_finds_wrong_sizes_and_counts(void) {
    open_pool();
    CHECK_FOUND(size_t, pool->stride, pool->stride + 16, found(), "pool->stride ==");
    CHECK_FOUND(size_t, pool->block_size, pool->block_size + 1, found(), "block_size % 16");
    CHECK_FOUND(size_t, pool->magazine_bytes, TP_CACHE_LINE, found(), "sizeof(tp__magazine)");
    CHECK_FOUND(uint32_t, pool->magazines, pool->magazines + 1, found(), "magazines == magazines");
    CHECK_FOUND(uint64_t, pool->blocks, pool->blocks + 1, found(), "blocks == count->blocks");
    CHECK_FOUND(size_t, pool->limit, BLOCKS / 2, found(), "blocks <= pool->limit");
    CHECK_FOUND(uint64_t, pool->ready, UINT64_MAX, found(), "ready");
    CHECK_FOUND(uint32_t, tp__magazine_at(pool, 2)->index, 1, found(), "->index == index");
    close_pool();
}

static void the_check_finds_a_wrong_slab(void) {
    open_pool();
    tp__slab *slab = &pool->slabs[0];
    REQUIRE(pool->slab_count > 1);
    CHECK_FOUND(uint32_t, slab->blocks, 0, found(), "slab->blocks >= 1");
    CHECK_FOUND(uint32_t, slab->blocks, slab->blocks - 1, found(), "blocks == count->blocks");
    CHECK_FOUND(uint32_t, slab->marked, 1, found(), "slab->marked == 0");
    CHECK_FOUND(uint32_t, pool->slab_free, 1, found(), "memory == NULL");
    CHECK_FOUND(uint32_t, pool->slab_free, UINT32_MAX, found(), "next <= pool->slab_count");
    CHECK_FOUND(uint32_t, pool->slab_capacity, 0, found(), "slab_count <= pool->slab_capacity");
    tp__block *header = tp__block_of(blocks[0]);
    CHECK_FOUND(uint64_t, header->mark, header->mark + 1, found(), "tp__pool_owns");
    CHECK_FOUND(uint32_t, header->slab, header->slab + 1, found(), "->slab == entry");
    CHECK_FOUND(uint32_t, header->holder, pool->magazines + 1, found(), "holder <= ");
    close_pool();
}

/* Frees a block as a thread without magazines does, so that the free list has one. */
static void the_check_finds_a_wrong_free_list(void) {
    open_pool();
    void *block = tp_pool_allocate(pool);
    REQUIRE(block != NULL);
    tp__depot_put_block(pool, block);
    CHECK_STR(found_unused(), "");
    CHECK_FOUND(uint32_t, tp__block_of(block)->holder, TP__HELD_BY_USER, found(),
        "holder_of(block) == TP__HELD_BY_FREE_LIST");
    CHECK_FOUND(void *, pool->free_list, NULL, found(), "left == 0");
    CHECK_FOUND(void *, *(void **)block, block, found(), "left > 0"); /* a ring */
    CHECK_FOUND(void *, *(void **)block, blocks[0], found(), "holder_of(block)");
    close_pool();
}

static void the_check_finds_a_free_slab_that_is_lost(void) {
    open_pool();
    /* The last slab's blocks were allocated last, and all of them are free. */
    CHECK_GT(tp_pool_trim(pool), 0);
    REQUIRE(pool->slab_free != 0);
    CHECK_STR(found(), "");
    CHECK_FOUND(uint32_t, pool->slab_free, 0, found(), "vacant == 0");
    uint32_t *link = &pool->slabs[pool->slab_free - 1].marked;
    CHECK_FOUND(uint32_t, *link, pool->slab_free, found(), "vacant > 0");
    close_pool();
}

static void the_check_finds_a_wrong_magazine(void) {
    open_pool();
    tp__magazine *filled = tp__magazine_at(pool, (uint32_t)atomic_load(&pool->filled.head));
    tp__magazine *empty = tp__magazine_at(pool, (uint32_t)atomic_load(&pool->empty.head));
    CHECK_FOUND(uint32_t, filled->count, pool->rounds + 1, found_unused(), "count <= pool->rounds");
    CHECK_FOUND(uint32_t, filled->count, filled->count - 1, found_unused(), "in_magazines");
    CHECK_FOUND(void *, filled->blocks[0], blocks[0], found_unused(), "== magazine->index");
    CHECK_FOUND(uint32_t, tp__block_of(filled->blocks[0])->holder, TP__HELD_BY_USER, found_unused(),
        "== magazine->index");
    CHECK_FOUND(uint64_t, pool->ready, pool->ready - 1, found_unused(), "== ready");
    CHECK_FOUND(uint64_t, pool->filled.head, empty->index, found_unused(), "magazine->count > 0");
    CHECK_FOUND(uint64_t, pool->empty.head, filled->index, found_unused(), "magazine->count == 0");
    CHECK_FOUND(uint32_t, filled->next, filled->index, found_unused(), "left > 0");
    CHECK_FOUND(uint32_t, empty->next, pool->magazines + 1, found_unused(), "index <= count");
    close_pool();
}

/* ---- stacks ---------------------------------------------------------------------------------- */

enum { NODES = 4 };
static _Atomic uint32_t next[NODES + 1];

static _Atomic uint32_t *next_of(void *unused, uint32_t index) {
    (void)unused;
    return &next[index];
}

static void the_check_finds_a_wrong_stack(void) {
    tp__stack stack = {.head = 0};
#define LOOK text_of(tp__stack_check(&stack, next_of, NULL, NODES))
    CHECK_STR(LOOK, "");
    for (uint32_t i = 1; i <= NODES; i++) {
        tp__stack_push(&stack, next_of, NULL, i);
        CHECK_STR(LOOK, "");
    }
    CHECK_FOUND(uint64_t, stack.head, NODES + 1, LOOK, "index <= count");
    CHECK_FOUND(uint32_t, next[2], NODES + 1, LOOK, "index <= count");
    CHECK_FOUND(uint32_t, next[1], NODES, LOOK, "left > 0");
#undef LOOK
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void the_check_finds_a_wrong_chunk(void) {
    tp__thread_cache *thread = tp__thread_cache_get();
    REQUIRE(thread != NULL);
    uint8_t *first = tp__chunk_cut(thread, 128);
    uint8_t *second = tp__chunk_cut(thread, 64);
    REQUIRE(first != NULL && second != NULL);
    tp__chunk *chunk = thread->chunk;
#define LOOK text_of(tp__chunk_check(chunk))
    CHECK_STR(LOOK, "");
    CHECK_FOUND(uint8_t *, chunk->next, chunk->end + 64, LOOK, "chunk->next <= chunk->end");
    CHECK_FOUND(uint8_t *, chunk->next, chunk->first - 64, LOOK, "chunk->first <= chunk->next");
    CHECK_FOUND(uint8_t *, chunk->next, chunk->next + 1, LOOK, "chunk->next % TP__CHUNK_ALIGN");
    CHECK_FOUND(uint8_t *, chunk->end, chunk->end - 1, LOOK, "chunk->end ==");
    CHECK_FOUND(uint8_t *, chunk->first, chunk->first + 64, LOOK, "chunk->first < start");
    CHECK_FOUND(uint32_t, chunk->outstanding, 4, LOOK, "outstanding <= used");
    CHECK_FOUND(uint32_t, chunk->outstanding, 0, LOOK, "used == 0");
    CHECK_FOUND(uint32_t, chunk->count, TP__CHUNK_BIAS + 1, LOOK, "count <= TP__CHUNK_BIAS");
    CHECK_FOUND(uint32_t, chunk->count, TP__CHUNK_BIAS - 3, LOOK, "<= chunk->outstanding");
    tp__chunk_release(thread, chunk, second, 64);
    CHECK_STR(LOOK, "");
    tp__chunk_drop(chunk); /* as another thread releases the first */
    CHECK_STR(LOOK, "");
    CHECK_GT(tp__chunk_trim(), 0);
#undef LOOK
}

CHECK_MAIN(CASE(the_check_finds_wrong_sizes_and_counts), CASE(the_check_finds_a_wrong_slab),
    CASE(the_check_finds_a_wrong_free_list), CASE(the_check_finds_a_free_slab_that_is_lost),
    CASE(the_check_finds_a_wrong_magazine), CASE(the_check_finds_a_wrong_stack),
    CASE(the_check_finds_a_wrong_chunk))
