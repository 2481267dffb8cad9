/*
 * Chunks: cutting pieces, starting a chunk over when its pieces are released, retiring it, and the
 * way back of the last packet from another thread. The cases look into the thread's own chunk.
 */
#include "check.h"

#include "core/memory/chunk.h"
#include "core/memory/memory.h"

enum { piece = 1024, per_chunk = 63 }; /* 64 KiB less the chunk's header, in pieces of 1 KiB */

static tp__thread_cache *thread_cache(void) {
    tp__thread_cache *record = tp__thread_cache_get();
    REQUIRE(record != NULL);
    return record;
}

typedef struct cut {
    tp__chunk *chunk;
    uint8_t *piece;
    size_t bytes;
} cut;

static cut cut_one(size_t bytes) {
    cut made = {.piece = tp__chunk_cut(thread_cache(), bytes), .bytes = bytes};
    REQUIRE(made.piece != NULL);
    made.chunk = thread_cache()->chunk;
    memset(made.piece, 0x42, bytes);
    return made;
}

static void release(cut made) {
    tp__chunk_release(tp_thread_record(), made.chunk, made.piece, made.bytes);
}

static void on_a_thread(void (*run)(void *), void *argument) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "test", run, argument) == TP_OK);
    tp_thread_join(&thread);
}

/* The thread's chunk, empty and started over. */
static tp__chunk *fresh(void) {
    release(cut_one(64));
    CHECK_EQ(thread_cache()->chunk->outstanding, 0);
    CHECK(thread_cache()->chunk->next == thread_cache()->chunk->first);
    return thread_cache()->chunk;
}

static void pieces_are_apart_and_aligned(void) {
    tp__chunk *chunk = fresh();
    cut a = cut_one(64);
    cut b = cut_one(192);
    cut c = cut_one(64);
    CHECK_EQ((uintptr_t)a.piece % 64, 0);
    CHECK(b.piece == a.piece + 64);
    CHECK(c.piece == b.piece + 192);
    CHECK(a.chunk == chunk && c.chunk == chunk);
    CHECK_GE((uintptr_t)a.piece, (uintptr_t)(chunk + 1));
    CHECK_EQ(chunk->outstanding, 3);
    release(a);
    release(b);
    release(c);
}

static void a_chunk_starts_over_when_its_owner_released_everything(void) {
    tp__chunk *chunk = fresh();
    for (int round = 0; round < 1000; round++) {
        cut a = cut_one(piece);
        cut b = cut_one(piece);
        CHECK(a.piece == chunk->first);
        release(a); /* not the newest piece: its memory is not reused yet */
        CHECK(chunk->next == b.piece + piece);
        release(b);
        CHECK(chunk->next == chunk->first);
    }
    CHECK(thread_cache()->chunk == chunk);
}

static void the_newest_piece_can_be_cut_again(void) {
    tp__chunk *chunk = fresh();
    cut a = cut_one(piece);
    cut b = cut_one(piece);
    release(b);
    CHECK(chunk->next == b.piece);
    cut c = cut_one(piece);
    CHECK(c.piece == b.piece);
    release(a);
    release(c);
}

static void the_end_of_the_newest_piece_can_be_cut_again(void) {
    tp__chunk *chunk = fresh();
    cut a = cut_one(piece);
    CHECK(tp__chunk_cut_back(thread_cache(), a.chunk, a.piece, a.bytes, 128));
    a.bytes = 128;
    CHECK(chunk->next == a.piece + 128);
    cut b = cut_one(piece);
    CHECK(b.piece == a.piece + 128);
    CHECK(!tp__chunk_cut_back(thread_cache(), a.chunk, a.piece, a.bytes, 64));
    CHECK(!tp__chunk_cut_back(NULL, b.chunk, b.piece, b.bytes, 64));
    release(a);
    release(b);
}

typedef struct pieces {
    cut made[per_chunk];
    unsigned count;
} pieces;

static void release_all(void *argument) {
    pieces *all = argument;
    for (unsigned i = 0; i < all->count; i++) {
        release(all->made[i]);
    }
}

static void cut_full(pieces *all) {
    for (all->count = 0; all->count < per_chunk; all->count++) {
        all->made[all->count] = cut_one(piece);
        REQUIRE(all->made[all->count].chunk == all->made[0].chunk);
    }
}

static void a_full_chunk_starts_over_when_others_released_everything(void) {
    static pieces all;
    tp__chunk *chunk = fresh();
    for (int round = 0; round < 20; round++) {
        cut_full(&all);
        CHECK_EQ(chunk->outstanding, per_chunk);
        on_a_thread(release_all, &all);
        CHECK_EQ(atomic_load(&chunk->count), TP__CHUNK_BIAS - per_chunk);
        cut more = cut_one(piece);
        CHECK(more.piece == chunk->first);
        CHECK_EQ(atomic_load(&chunk->count), TP__CHUNK_BIAS);
        release(more);
    }
    CHECK(thread_cache()->chunk == chunk);
}

/* The chunk's two counts (released by the owner, released by others) each hold a part, in both
 * orders: their sum must be found. */
static void releases_by_owner_and_others_add_up(void) {
    static pieces all;
    static pieces half;
    for (int round = 0; round < 20; round++) {
        tp__chunk *chunk = fresh();
        cut_full(&all);
        half.count = 0;
        for (unsigned i = 0; i < per_chunk; i += 2) {
            half.made[half.count++] = all.made[i];
        }
        if (round % 2 == 0) {
            on_a_thread(release_all, &half);
        }
        for (unsigned i = 1; i < per_chunk; i += 2) {
            release(all.made[i]);
        }
        if (round % 2 != 0) {
            on_a_thread(release_all, &half);
        }
        cut more[2] = {cut_one(piece), cut_one(piece)};
        CHECK(thread_cache()->chunk == chunk);
        release(more[0]);
        release(more[1]);
    }
}

static void a_retired_chunk_waits_for_its_last_packet(void) {
    static pieces all;
    tp__chunk *chunk = fresh();
    uint64_t chunks = tp__chunk_count();
    cut_full(&all);
    release(all.made[0]);
    cut next = cut_one(piece); /* the chunk is full: another one is taken */
    CHECK(next.chunk != chunk);
    CHECK_EQ(atomic_load(&chunk->count), per_chunk - 1);
    for (unsigned i = 1; i < per_chunk - 1; i++) {
        release(all.made[i]); /* the former owner releases as any other thread does */
    }
    CHECK_EQ(atomic_load(&chunk->count), 1);
    for (unsigned i = 0; i < piece; i++) {
        CHECK_EQ(all.made[per_chunk - 1].piece[i], 0x42);
    }
    all.made[0] = all.made[per_chunk - 1];
    all.count = 1;
    on_a_thread(release_all, &all); /* back in the pool, with the thread's magazines */
    release(next);
    for (int round = 0; round < 10; round++) {
        cut_full(&all);
        cut more = cut_one(piece);
        release_all(&all);
        release(more);
    }
    CHECK_LE(tp__chunk_count(), chunks + 2);
}

static void cut_and_end(void *argument) {
    pieces *all = argument;
    for (all->count = 0; all->count < 10; all->count++) {
        all->made[all->count] = cut_one(piece);
    }
}

static void pieces_outlive_their_thread(void) {
    static pieces all;
    uint64_t chunks = 0;
    uint64_t live = 0;
    for (int round = 0; round < 100; round++) {
        on_a_thread(cut_and_end, &all);
        CHECK_EQ(all.made[9].piece[piece - 1], 0x42);
        CHECK_EQ(atomic_load(&all.made[0].chunk->count), 10);
        release_all(&all);
        if (round == 10) {
            chunks = tp__chunk_count();
            live = tp__memory_live();
        }
    }
    CHECK_EQ(tp__chunk_count(), chunks);
    CHECK_EQ(tp__memory_live(), live);
}

static void trim_gives_back_every_unused_chunk(void) {
    CHECK_EQ(tp__chunk_reserve(50), TP_OK);
    cut kept = cut_one(piece);
    CHECK_GT(tp__chunk_trim(), (size_t)50 * 60000);
    CHECK_EQ(tp__chunk_count(), 1);
    CHECK(thread_cache()->chunk == kept.chunk);
    release(kept);
    CHECK_GT(tp__chunk_trim(), 60000);
    CHECK_EQ(tp__chunk_count(), 0);
    CHECK(thread_cache()->chunk == NULL);
    CHECK_EQ(tp__chunk_trim(), 0);
    release(cut_one(piece));
    CHECK_EQ(tp__chunk_count(), 1);
}

/* Runs first, while the chunk pool does not exist yet. */
static void a_failed_allocation_leaves_the_chunk_usable(void) {
    tp__thread_cache *record = thread_cache();
    long n = 0;
    void *made = NULL;
    while (made == NULL && n < 100) {
        tp__memory_fail_from(++n);
        made = tp__chunk_cut(record, piece);
    }
    tp__memory_fail_from(-1);
    CHECK_GE(n, 4); /* pool, table and slab are needed; magazines are not */
    REQUIRE(made != NULL);
    tp__chunk_release(record, record->chunk, made, piece);

    static pieces all;
    fresh();
    cut_full(&all);
    (void)tp__chunk_trim();
    tp__memory_fail_from(1);
    CHECK(tp__chunk_cut(record, piece) == NULL);
    CHECK(record->chunk == all.made[0].chunk); /* the thread keeps its chunk and goes on using it */
    tp__memory_fail_from(-1);
    cut more = cut_one(piece);
    CHECK(more.chunk != all.made[0].chunk);
    release_all(&all);
    release(more);
}

CHECK_MAIN(CASE(a_failed_allocation_leaves_the_chunk_usable), CASE(pieces_are_apart_and_aligned),
    CASE(a_chunk_starts_over_when_its_owner_released_everything),
    CASE(the_newest_piece_can_be_cut_again), CASE(the_end_of_the_newest_piece_can_be_cut_again),
    CASE(a_full_chunk_starts_over_when_others_released_everything),
    CASE(releases_by_owner_and_others_add_up), CASE(a_retired_chunk_waits_for_its_last_packet),
    CASE(pieces_outlive_their_thread), CASE(trim_gives_back_every_unused_chunk))
