/*
 * A handler that sends without end: the numbers that on_send is to receive at its return have 28
 * bits for messages and 36 for bytes. Once half of either is owed, sends from the handler only fill
 * the queue, so the numbers never overflow. The tests write the large number instead of sending so
 * much.
 */
#include "core/engine/queue_size.h"
#include "core/engine/server_state.h"
#include "server_fixture.h"

enum { SENDS = 3 * TP_PORT_MAX_BUFFERS + 1 };

static server_fixture fixture;
static uint64_t owed;
static atomic_uint sent_inside; /* messages that left the queue while the handler ran */

static void owe_and_send(server_fixture *on, tp_session_id id, tp_packet *asked) {
    (void)asked;
    tp__session *session = &on->server->sessions[tp_session_slot(id)];
    session->owed = owed;
    for (uint32_t i = 0; i < SENDS; i++) {
        tp_packet *packet = tp_packet_new(sizeof i);
        REQUIRE(packet != NULL);
        tp_packet_put_u32(packet, i);
        CHECK(tp_server_send(on->server, id, packet));
        tp_packet_release(packet);
    }
    atomic_store(&sent_inside, (unsigned)atomic_load(&session->numbers.sent_messages));
}

/* Returns how many messages were sent from inside the handler. All of them arrive. */
static unsigned send_owing(uint64_t before) {
    owed = before;
    server_fixture_init(&fixture);
    fixture.on_message = owe_and_send;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    for (uint32_t i = 0; i < SENDS; i++) {
        uint8_t bytes[4] = {0};
        unsigned type;
        REQUIRE(raw_receive_frame(peer, &type, bytes, sizeof bytes) == sizeof bytes);
    }
    FIXTURE_WAIT(atomic_load(&fixture.sends) == (unsigned)(before >> TP__QUEUED_SHIFT) + SENDS);
    raw_close(peer, false);
    server_fixture_close(&fixture);
    return atomic_load(&sent_inside);
}

static void a_handler_sends_while_little_is_owed(void) {
    CHECK_LE(SENDS - TP_PORT_MAX_BUFFERS, send_owing(0));
    CHECK_LE(
        SENDS - TP_PORT_MAX_BUFFERS, send_owing((TP__QUEUED_ONE << 27) - SENDS * TP__QUEUED_ONE));
}

static void a_handler_only_fills_its_queue_when_2_27_messages_are_owed(void) {
    CHECK_EQ(send_owing(TP__QUEUED_ONE << 27), 0);
}

static void a_handler_only_fills_its_queue_when_32_gib_are_owed(void) {
    CHECK_EQ(send_owing(TP__QUEUED_ONE | UINT64_C(1) << 35), 0);
}

CHECK_MAIN(CASE(a_handler_sends_while_little_is_owed),
    CASE(a_handler_only_fills_its_queue_when_2_27_messages_are_owed),
    CASE(a_handler_only_fills_its_queue_when_32_gib_are_owed))
