/* Chunks: cutting, beginning anew, retiring, and the last packet's way back from another thread. */
#include "check.h"

#include "core/memory/chunk.h"
#include "core/memory/memory.h"

enum { piece = 1024, per_chunk = 63 }; /* 64 KiB less the chunk's header, in KiB pieces */

static tp__local *local(void) {
    tp__local *record = tp__local_get();
    REQUIRE(record != NULL);
    return record;
}

typedef struct cut {
    tp__chunk *chunk;
    uint8_t *piece;
    size_t bytes;
} cut;

static cut cut_one(size_t bytes) {
    cut made = {.piece = tp__chunk_cut(local(), bytes), .bytes = bytes};
    REQUIRE(made.piece != NULL);
    made.chunk = local()->chunk;
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

/* A chunk in which nothing is alive, begun anew. */
static tp__chunk *fresh(void) {
    release(cut_one(64));
    CHECK_EQ(local()->chunk->outstanding, 0);
    CHECK(local()->chunk->next == local()->chunk->first);
    return local()->chunk;
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

static void begins_anew_when_the_owner_released_all(void) {
    tp__chunk *chunk = fresh();
    for (int round = 0; round < 1000; round++) {
        cut a = cut_one(piece);
        cut b = cut_one(piece);
        CHECK(a.piece == chunk->first);
        release(a); /* not the newest: its place waits */
        CHECK(chunk->next == b.piece + piece);
        release(b);
        CHECK(chunk->next == chunk->first);
    }
    CHECK(local()->chunk == chunk);
}

static void the_newest_piece_is_taken_back(void) {
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

static void the_end_of_the_newest_piece_is_taken_back(void) {
    tp__chunk *chunk = fresh();
    cut a = cut_one(piece);
    CHECK(tp__chunk_cut_back(local(), a.chunk, a.piece, a.bytes, 128));
    a.bytes = 128;
    CHECK(chunk->next == a.piece + 128);
    cut b = cut_one(piece);
    CHECK(b.piece == a.piece + 128);
    CHECK(!tp__chunk_cut_back(local(), a.chunk, a.piece, a.bytes, 64));
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

static void begins_anew_when_full_and_others_released_all(void) {
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
    CHECK(local()->chunk == chunk);
}

/* Half here, half there, and in both orders: the halves of the count must add up. */
static void both_halves_of_the_count_meet(void) {
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
        CHECK(local()->chunk == chunk);
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
    cut next = cut_one(piece); /* full: another chunk */
    CHECK(next.chunk != chunk);
    CHECK_EQ(atomic_load(&chunk->count), per_chunk - 1);
    for (unsigned i = 1; i < per_chunk - 1; i++) {
        release(all.made[i]); /* the former owner: as anybody else */
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

static void trim_gives_back_all_that_is_unused(void) {
    CHECK_EQ(tp__chunk_reserve(50), TP_OK);
    cut kept = cut_one(piece);
    CHECK_GT(tp__chunk_trim(), (size_t)50 * 60000);
    CHECK_EQ(tp__chunk_count(), 1);
    CHECK(local()->chunk == kept.chunk);
    release(kept);
    CHECK_GT(tp__chunk_trim(), 60000);
    CHECK_EQ(tp__chunk_count(), 0);
    CHECK(local()->chunk == NULL);
    CHECK_EQ(tp__chunk_trim(), 0);
    release(cut_one(piece));
    CHECK_EQ(tp__chunk_count(), 1);
}

/* Runs first, when even the chunk pool is missing. */
static void outlives_failing_allocations(void) {
    tp__local *record = local();
    long n = 0;
    void *made = NULL;
    while (made == NULL && n < 100) {
        tp__memory_fail_from(++n);
        made = tp__chunk_cut(record, piece);
    }
    tp__memory_fail_from(-1);
    CHECK_GE(n, 4); /* the pool, its table, its slab: magazines it can do without */
    REQUIRE(made != NULL);
    tp__chunk_release(record, record->chunk, made, piece);

    static pieces all;
    fresh();
    cut_full(&all);
    (void)tp__chunk_trim();
    tp__memory_fail_from(1);
    CHECK(tp__chunk_cut(record, piece) == NULL);
    CHECK(record->chunk == all.made[0].chunk); /* keeps what it has, and goes on with it */
    tp__memory_fail_from(-1);
    cut more = cut_one(piece);
    CHECK(more.chunk != all.made[0].chunk);
    release_all(&all);
    release(more);
}

CHECK_MAIN(CASE(outlives_failing_allocations), CASE(pieces_are_apart_and_aligned),
    CASE(begins_anew_when_the_owner_released_all), CASE(the_newest_piece_is_taken_back),
    CASE(the_end_of_the_newest_piece_is_taken_back),
    CASE(begins_anew_when_full_and_others_released_all), CASE(both_halves_of_the_count_meet),
    CASE(a_retired_chunk_waits_for_its_last_packet), CASE(pieces_outlive_their_thread),
    CASE(trim_gives_back_all_that_is_unused))
