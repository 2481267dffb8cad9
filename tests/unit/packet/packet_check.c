/*
 * A packet's invariants hold while it is written, read and sealed, and tp__packet_check() finds
 * each one that is broken: every case breaks one field of a packet of one kind, looks, and repairs
 * it.
 */
#include "check.h"
#include "check_finds.h"

#include "core/memory/large.h"
#include "core/packet/packet_internal.h"

static const char *found(const tp_packet *packet) {
    return text_of(tp__packet_check(packet));
}

/* Sets a field of `packet` to a wrong value and repairs it. */
#define CHECK_FOUND(type, field, wrong, text)                                                      \
    CHECK_FINDS_VALUE(found(packet), text, type, packet->field, wrong)

/* What every packet has. */
static void check_common(tp_packet *packet) {
    CHECK_STR(found(packet), "");
    CHECK_FOUND(uint32_t, references, 0, "references");
    CHECK_FOUND(uint32_t, start, TP__PACKET_LOWEST - 1, "start >= TP__PACKET_LOWEST");
    CHECK_FOUND(uint32_t, start, packet->end + 1, "<= packet->end");
    CHECK_FOUND(uint32_t, size, packet->end - packet->start + 1, "<= packet->end");
    CHECK_FOUND(uint32_t, size, UINT32_MAX, "<= packet->end"); /* the sum does not wrap */
    CHECK_FOUND(uint32_t, end, packet->bytes + 1, "packet->end <= packet->bytes");
}

static void the_check_finds_a_wrong_packet_of_a_chunk(void) {
    tp_packet *packet = tp_packet_new(100);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, 7);
    tp_packet_put_u32(packet, 8);
    CHECK_EQ(tp_packet_get_u32(packet), 7);
    REQUIRE(tp_packet_push_head(packet, 4) != NULL);
    check_common(packet);
    CHECK_FOUND(uint32_t, cursor, packet->size + 1, "cursor <= packet->size");
    CHECK_FOUND(bool, run, true, "!packet->run");
    CHECK_FOUND(uint32_t, bytes, packet->bytes + 1, "bytes % TP__CHUNK_ALIGN");
    CHECK_FOUND(uint32_t, bytes, 2 * TP__CHUNK_BYTES / 64 * 64, "bytes <= TP__CHUNK_PIECE_MAX");
    tp__chunk elsewhere = {.first = (uint8_t *)packet + 64, .end = (uint8_t *)packet + 128};
    CHECK_FOUND(tp__chunk *, chunk, &elsewhere, "at >= packet->chunk->first");
    elsewhere = (tp__chunk){.first = (uint8_t *)packet, .end = (uint8_t *)packet + 64};
    CHECK_FOUND(tp__chunk *, chunk, &elsewhere, "chunk->end - at");
    tp__packet_seal(packet, 0);
    check_common(packet);
    tp_packet_release(packet);
}

static void the_check_finds_a_wrong_kept_packet(void) {
    REQUIRE(tp__kept_open() == TP_OK);
    tp_packet *packet = tp__packet_kept(300);
    REQUIRE(packet != NULL);
    check_common(packet);
    CHECK_FOUND(uint8_t, class_index, TP__PACKET_KEPT | TP__KEPT_CLASSES, "< TP__KEPT_CLASSES");
    CHECK_FOUND(uint8_t, class_index, TP__PACKET_KEPT | 0, "bytes <= TP__KEPT_HEAD");
    CHECK_FOUND(bool, run, true, "packet->sealed"); /* a run is sealed from the start */
    tp_packet_release(packet);
}

static void the_check_finds_a_wrong_run(void) {
    static const uint8_t bytes[200];
    REQUIRE(tp__kept_open() == TP_OK);
    tp_packet *packet = tp__packet_run(bytes, 100, 400);
    REQUIRE(packet != NULL);
    tp__run_append(packet, bytes, 200);
    packet->messages = packet->size + 1; /* no cursor */
    check_common(packet);
    CHECK_FOUND(bool, sealed, false, "packet->sealed");
    packet->messages = 1;
    tp_packet_release(packet);
}

static void the_check_finds_a_wrong_large_packet(void) {
    tp_packet *packet = tp_packet_new(100000);
    REQUIRE(packet != NULL);
    tp_packet_put_u8(packet, 1);
    check_common(packet);
    CHECK_FOUND(bool, run, true, "!packet->run");
    CHECK_FOUND(uint8_t, class_index, TP__LARGE_CLASSES, "< TP__LARGE_CLASSES");
    CHECK_FOUND(uint8_t, class_index, 0, "bytes <= TP__LARGE_HEAD");
    CHECK_FOUND(uint8_t, class_index, TP__PACKET_KEPT, "bytes <= TP__KEPT_HEAD");
    tp_packet_release(packet);
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_packet_of_a_chunk),
    CASE(the_check_finds_a_wrong_kept_packet), CASE(the_check_finds_a_wrong_run),
    CASE(the_check_finds_a_wrong_large_packet))
