/*
 * A backend and its bus client against a scripted gate.
 *
 * The gate is a plain peer of the bus that sends gate messages as the case requests: twice,
 * late, in the wrong order, or malformed. The cases check what the service's handlers receive, and
 * what the backend answers and returns.
 */
#include "core/memory/memory.h"
#include "gate_fixture.h"
#include "twinport/log.h"

/* A session id as a gate makes it: the player's slot at the gate, and how often the slot has been
 * used. */
#define SESSION(slot, number) ((uint64_t)(number) << 20 | (slot))

static tp__hub *hub;
static service arena;
static party gate;
static tp_gate_done answered; /* the last answer to a request of the gate */

static void on_answer(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    (void)client, (void)from;
    party *of = context;
    tp_mutex_lock(&fixture_mutex);
    of->reply_error = error;
    memset(&answered, 0xee, sizeof answered);
    if (!error) {
        CHECK(tp_gate_read_done(tp_packet_bytes(packet), tp_packet_size(packet), &answered));
    }
    party_note(&of->replies);
}

/* Sends a request to the arena and waits for the answer. */
static void request(party *from, const void *bytes, size_t size) {
    unsigned replies = from->replies;
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    CHECK_EQ(tp_lanclient_request(
                 from->client, service_peer(&arena), packet, 600000, on_answer, from, NULL),
        TP_OK);
    tp_packet_release(packet);
    AWAIT(from->replies == replies + 1);
}

static void send_join(party *from, uint64_t session, uint32_t visit) {
    uint8_t bytes[TP_GATE_JOIN_SIZE];
    const tp_gate_join join = {.session = session, .visit = visit, .account = session};
    tp_gate_write_join(bytes, &join);
    request(from, bytes, sizeof bytes);
    CHECK_EQ(from->reply_error, TP_OK);
}

static void send_leave(uint64_t session, uint32_t visit, uint16_t why, uint16_t end) {
    uint8_t bytes[TP_GATE_LEAVE_SIZE];
    const tp_gate_left left = {.session = session, .visit = visit, .why = why, .end = end};
    tp_gate_write_leave(bytes, &left);
    request(&gate, bytes, sizeof bytes);
    CHECK_EQ(gate.reply_error, TP_OK);
    CHECK_EQ(answered.status, TP_GATE_OK);
}

static void send_bytes_from(party *from, const void *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    CHECK_EQ(tp_lanclient_send(from->client, service_peer(&arena), packet, NULL), TP_OK);
    tp_packet_release(packet);
}

static void send_bytes(const void *bytes, size_t size) {
    send_bytes_from(&gate, bytes, size);
}

static void send_data_from(party *from, uint64_t session, const char *text) {
    uint8_t bytes[TP_GATE_DATA_SIZE + FIXTURE_TEXT];
    tp_gate_write_data(bytes, session);
    memcpy(bytes + TP_GATE_DATA_SIZE, text, strlen(text));
    send_bytes_from(from, bytes, TP_GATE_DATA_SIZE + strlen(text));
}

static void send_data(uint64_t session, const char *text) {
    send_data_from(&gate, session, text);
}

static void open_all(unsigned max_players, unsigned max_gates) {
    hub = hub_open_default();
    service_init(&arena, hub, "arena");
    arena.options.max_players = max_players;
    arena.options.max_gates = max_gates;
    service_start(&arena);
    party_join(&gate, hub, "gate", "one");
}

static void close_all(void) {
    party_leave(&gate);
    service_leave(&arena);
    hub_close(hub);
}

static void stop_and_try_to_start(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_backend *backend = tp_backend_of(client);
    tp_backend_stop(backend);
    CHECK_EQ(tp_backend_start(backend), TP_ERR_STATE);
    service_on_message(client, from, packet);
}

/* A start during the stop is refused and changes nothing, not even the reason with which players
 * leave. */
static void a_start_during_a_stop_is_refused(void) {
    hub = hub_open_default();
    service_init(&arena, hub, "arena");
    arena.handlers.bus.on_message = stop_and_try_to_start;
    service_start(&arena);
    party other;
    party_join(&gate, hub, "gate", "one");
    party_join(&other, hub, "chat", "other");
    send_join(&gate, SESSION(5, 1), 1);
    CHECK_EQ(party_send(&other, service_peer(&arena), "stop", NULL), TP_OK);
    AWAIT(arena.other_messages == 1);
    CHECK_EQ(tp_backend_wait(arena.backend, -1), TP_OK);
    CHECK_EQ(arena.leaves, 1);
    CHECK_EQ(arena.why, TP_LEAVE_STOPPED);
    party_leave(&other);
    party_leave(&gate);
    service_kill(&arena);
    hub_close(hub);
}

static void a_join_sent_twice_is_one_join(void) {
    open_all(16, 2);
    send_join(&gate, SESSION(5, 1), 1);
    CHECK_EQ(answered.status, TP_GATE_OK);
    send_join(&gate, SESSION(5, 1), 1); /* as if the first answer had been lost */
    CHECK_EQ(answered.status, TP_GATE_OK);
    CHECK_EQ(arena.joins, 1);
    CHECK_EQ(arena.leaves, 0);
    CHECK_EQ(arena.info.account, SESSION(5, 1));

    /* The player is back from another service, and the LEAVE of the first assignment is late. */
    send_join(&gate, SESSION(5, 1), 2);
    CHECK_EQ(arena.joins, 2);
    CHECK_EQ(arena.leaves, 1);
    CHECK_EQ(arena.why, TP_LEAVE_REPLACED);
    send_leave(SESSION(5, 1), 1, TP_GATE_LEAVE_ENDED, TP_END_IDLE);
    CHECK_EQ(arena.leaves, 1);
    send_join(&gate, SESSION(5, 1), 1); /* nor does an old JOIN renew an old assignment */
    CHECK_EQ(arena.joins, 2);
    send_leave(SESSION(5, 1), 2, TP_GATE_LEAVE_ENDED, TP_END_IDLE);
    CHECK_EQ(arena.leaves, 2);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_IDLE);
    send_leave(SESSION(5, 1), 2, TP_GATE_LEAVE_ENDED, TP_END_IDLE);
    CHECK_EQ(arena.leaves, 2);
    close_all();
}

static void a_newer_session_replaces_the_one_in_its_slot(void) {
    open_all(16, 2);
    send_join(&gate, SESSION(7, 1), 1);
    tp_player first = arena.last;
    send_join(&gate, SESSION(7, 2), 2);
    CHECK_EQ(arena.joins, 2);
    CHECK_EQ(arena.leaves, 1);
    CHECK_EQ(arena.why, TP_LEAVE_REPLACED);
    CHECK_EQ(service_send(&arena, &first, "?"), TP_ERR_NO_SESSION);
    send_leave(SESSION(7, 1), 1, TP_GATE_LEAVE_MOVED, 0);
    CHECK_EQ(arena.leaves, 1);
    send_leave(SESSION(7, 2), 2, 77, 777); /* reasons that only a newer gate has */
    CHECK_EQ(arena.leaves, 2);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_NONE);
    close_all();
}

static void messages_reach_the_player_of_their_session(void) {
    open_all(16, 2);
    send_join(&gate, SESSION(1, 1), 1);
    send_join(&gate, SESSION(2000, 1), 2);
    tp_player far = arena.last;
    send_data(SESSION(2000, 1), "far");
    AWAIT(arena.messages == 1);
    CHECK(tp_player_same(&arena.last, &far));
    CHECK_STR(arena.text, "far");
    send_data(SESSION(2000, 2), "another in his place");
    send_data(SESSION(3, 1), "nobody");
    send_data(SESSION(1048575, 1), "nobody");
    send_data(SESSION(1, 1), "");
    AWAIT(arena.messages == 2);
    CHECK_EQ(service_stats(&arena).unknown, 3);
    CHECK_EQ(service_stats(&arena).received, 2);
    close_all();
}

static void malformed_gate_messages_are_returned(void) {
    open_all(16, 2);
    send_join(&gate, SESSION(1, 1), 1);
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = {{"", 0}, {"\3", 1}, {"\3\0\0\0\0\0\0\0\0\0\0", 11},
        {"\4\0\1\0\0\0\0\0\0\0\0\0", 12},
        {"\377\377\377\377\377\377\377\377\377\377\377\377\377", 13}};
    unsigned count = sizeof wrong / sizeof wrong[0];
    for (unsigned i = 0; i < count; i++) {
        send_bytes(wrong[i].bytes, wrong[i].size);
    }
    AWAIT(gate.returns == count);
    CHECK_EQ(gate.returned.reason, TP_ERR_PROTOCOL);
    for (unsigned i = 0; i < count; i++) {
        request(&gate, wrong[i].bytes, wrong[i].size);
        CHECK_EQ(gate.reply_error, TP_ERR_PROTOCOL);
    }
    CHECK_EQ(service_stats(&arena).malformed, 2 * count);
    send_data(SESSION(1, 1), "still here");
    AWAIT(arena.messages == 1);
    close_all();
}

static void players_and_gates_beyond_the_limits_are_refused(void) {
    open_all(2, 1);
    send_join(&gate, SESSION(1, 1), 1);
    send_join(&gate, SESSION(2, 1), 2);
    send_join(&gate, SESSION(3, 1), 3);
    CHECK_EQ(answered.status, TP_GATE_REFUSED);
    CHECK_EQ(answered.close_code, TP_CLOSE_FULL);
    CHECK_EQ(arena.joins, 2);
    send_leave(SESSION(3, 1), 3, TP_GATE_LEAVE_ENDED, 1);
    CHECK_EQ(arena.leaves, 0);
    send_leave(SESSION(1, 1), 1, TP_GATE_LEAVE_ENDED, 1);

    party more; /* one gate too many: the backend has room for the player, not for the gate */
    party_join(&more, hub, "gate", "two");
    send_join(&more, SESSION(1, 1), 1);
    CHECK_EQ(answered.status, TP_GATE_REFUSED);
    CHECK_EQ(answered.close_code, TP_CLOSE_FULL);
    CHECK_EQ(service_stats(&arena).refused, 2);
    send_join(&gate, SESSION(3, 2), 4);
    CHECK_EQ(answered.status, TP_GATE_OK);
    party_leave(&more);
    close_all();
}

/* A gate reconnects before its loss is noticed. At first there is no slot for it, and data of its
 * players is not delivered as a bus message. When the lost gate is gone, its players are
 * admitted. */
static void a_gate_is_admitted_when_another_is_gone(void) {
    open_all(16, 1);
    send_join(&gate, SESSION(1, 1), 1);
    party more;
    party_join(&more, hub, "gate", "two");
    send_join(&more, SESSION(1, 2), 1);
    CHECK_EQ(answered.status, TP_GATE_REFUSED);
    send_data_from(&more, SESSION(1, 2), "hello?");
    AWAIT(service_stats(&arena).unknown + arena.other_messages == 1);
    CHECK_EQ(arena.other_messages, 0);

    party_leave(&gate);
    AWAIT(arena.leaves == 1);
    send_join(&more, SESSION(1, 3), 2);
    CHECK_EQ(answered.status, TP_GATE_OK);
    CHECK_EQ(arena.joins, 2);
    send_data_from(&more, SESSION(1, 3), "hello");
    AWAIT(arena.messages == 1);
    party_join(&gate, hub, "gate", "three"); /* now there is no slot for this gate */
    send_join(&gate, SESSION(1, 1), 1);
    CHECK_EQ(answered.status, TP_GATE_REFUSED);
    party_leave(&more);
    AWAIT(arena.leaves == 2);
    CHECK_EQ(arena.why, TP_LEAVE_GATE_LOST);
    send_join(&gate, SESSION(1, 2), 2);
    CHECK_EQ(answered.status, TP_GATE_OK);
    close_all();
}

/* Two gates whose sessions have the same ids. */
static void gates_with_equal_session_ids_are_distinguished(void) {
    open_all(16, 2);
    party more;
    party_join(&more, hub, "gate", "two");
    send_join(&gate, SESSION(1, 1), 1);
    tp_player first = arena.last;
    send_join(&more, SESSION(1, 1), 1);
    tp_player second = arena.last;
    CHECK_EQ(first.session, second.session);
    CHECK_NE(first.gate, second.gate);
    CHECK_NE(first.index, second.index);
    tp_player mixed = {.session = first.session, .gate = second.gate, .index = first.index};
    CHECK_EQ(service_send(&arena, &mixed, "?"), TP_ERR_NO_SESSION);
    mixed = (tp_player){.session = first.session, .gate = first.gate, .index = 1u << 30};
    CHECK_EQ(service_send(&arena, &mixed, "?"), TP_ERR_NO_SESSION);
    CHECK_EQ(service_send(&arena, &first, "to the first"), TP_OK);
    AWAIT(gate.messages == 1);
    CHECK_EQ(more.messages, 0);
    party_leave(&more);
    AWAIT(arena.leaves == 1);
    CHECK(tp_player_same(&arena.last, &second));
    CHECK_EQ(arena.why, TP_LEAVE_GATE_LOST);
    close_all();
}

/* Bus traffic that does not come from a gate is passed to the service as it would be without a
 * backend. */
static void other_bus_traffic_reaches_the_service(void) {
    open_all(16, 2);
    party chat;
    party_join(&chat, hub, "chat", "c");
    CHECK_EQ(party_send(&chat, service_peer(&arena), "\1 looks like a join", NULL), TP_OK);
    AWAIT(arena.other_messages == 1);
    CHECK_EQ(service_stats(&arena).malformed, 0);
    CHECK_EQ(
        party_request(&chat, service_peer(&arena), "a request, which it has no handler for", 0),
        TP_OK);
    AWAIT(chat.replies == 1);
    CHECK_EQ(chat.reply_error, TP_ERR_UNSUPPORTED);
    tp_packet *packet = text_packet("to nobody");
    CHECK_EQ(tp_lanclient_send(tp_backend_client(arena.backend), 12345, packet, NULL), TP_OK);
    tp_packet_release(packet);
    AWAIT(arena.returns == 1);
    CHECK_EQ(service_stats(&arena).returned, 1);
    CHECK(tp_backend_of(tp_backend_client(arena.backend)) == arena.backend);
    party_leave(&chat);
    close_all();
}

static void a_send_that_cannot_be_done_names_the_error(void) {
    open_all(16, 2);
    send_join(&gate, SESSION(1, 1), 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_send(arena.backend, &name, NULL), TP_ERR_INVALID);
    tp_packet *packet = tp_packet_new(4);
    REQUIRE(packet != NULL);
    tp_packet_put_u64(packet, 0);
    CHECK_EQ(tp_backend_send(arena.backend, &name, packet), TP_ERR_TOO_LARGE);
    tp_packet_release(packet);
    packet = tp_packet_new((1 << 20) + 1);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, (1 << 20) + 1));
    CHECK_EQ(tp_backend_send(arena.backend, &name, packet), TP_ERR_TOO_LARGE);
    size_t reached = 9;
    CHECK_EQ(tp_backend_send_all(arena.backend, NULL, packet, &reached), TP_ERR_TOO_LARGE);
    CHECK_EQ(reached, 0);
    tp_packet_release(packet);
    packet = tp_packet_new(TP_PACKET_MAX);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, TP_PACKET_MAX));
    CHECK_EQ(tp_backend_send(arena.backend, &name, packet), TP_ERR_TOO_LARGE);
    tp_packet_release(packet);
    tp_backend_stop(arena.backend);
    CHECK_EQ(tp_backend_wait(arena.backend, -1), TP_OK);
    CHECK_EQ(arena.why, TP_LEAVE_STOPPED);
    CHECK_EQ(service_send(&arena, &name, "?"), TP_ERR_NO_SESSION);
    CHECK_EQ(tp_backend_start(arena.backend), TP_OK);
    AWAIT(arena.ups == 2);
    close_all();
}

static void invalid_options_are_refused(void) {
    fixture_open();
    hub = hub_open_default();
    tp_log_set_level(TP_LOG_OFF);
    for (unsigned i = 0; i < 7; i++) {
        service_init(&arena, hub, "arena");
        switch (i) {
        case 5:
            arena.options.bus.service = arena.options.gates;
            break;
        case 0:
            arena.options.size = 8;
            break;
        case 1:
            arena.options.gates = "A gate";
            break;
        case 2:
            arena.options.max_players = 0;
            break;
        case 3:
            arena.options.max_gates = TP_BACKEND_MAX_GATES + 1;
            break;
        case 4:
            arena.options.bus.service = NULL; /* refused by lanclient */
            break;
        default:
            arena.handlers.bus.size = 8;
            break;
        }
        CHECK_EQ(
            tp_backend_create(&arena.options, &arena.handlers, &arena.backend), TP_ERR_INVALID);
        CHECK(arena.backend == NULL);
    }
    tp_log_set_level(TP_LOG_WARNING);
    CHECK_STR(tp_leave_name(TP_LEAVE_MOVED), "moved");
    CHECK_STR(tp_leave_name((tp_leave)99), "unknown");
    hub_close(hub);
}

/* After a warm-up, messages allocate nothing. The exception is a pool that grows once, when a stall
 * has more messages in flight than there were before. */
static void messages_allocate_nothing_after_warm_up(void) {
    open_all(16, 2);
    send_join(&gate, SESSION(1, 1), 1);
    tp_player name = arena.last;
    uint64_t before = 0;
    for (unsigned i = 1; i <= 2000; i++) {
        CHECK_EQ(service_send(&arena, &name, "down"), TP_OK);
        send_data(SESSION(1, 1), "up");
        if (i % 100 == 0) {
            AWAIT(arena.messages == i && gate.messages == i);
        }
        if (i == 1000) {
            before = tp__memory_allocations();
        }
    }
    CHECK_LT(
        tp__memory_allocations() - before, 20); /* for 2,000 messages, across the bus and back */
    close_all();
}

/* ---- messages the backend does not accept ---------------------------------------------------- */

/* `from` has had one message returned; then its connection is cut. */
static void lose_link_after_return(party *from) {
    AWAIT(from->returns == 1);
    tp_mutex_lock(&fixture_mutex);
    unsigned ups = arena.ups, downs = from->peer_downs;
    tp_mutex_unlock(&fixture_mutex);
    hub_cut(hub, service_peer(&arena));
    AWAIT(from->peer_downs == downs + 1);
    CHECK_EQ(from->returns, 1);
    AWAIT(arena.ups == ups + 1);
}

static void a_returned_message_comes_back_once(void) {
    party chat;
    hub = hub_open_default();
    service_init(&arena, hub, "arena");
    arena.handlers.bus.on_message = NULL;
    service_start(&arena);
    tp_lanclient *client = tp_backend_client(arena.backend);
    party_join(&chat, hub, "chat", "c");
    party_join(&gate, hub, "gate", "one");
    AWAIT(chat.peer_ups == 2); /* the arena has both in its peer list, too */
    send_join(&gate, SESSION(1, 1), 1);

    client_pause_acks(client);
    CHECK_EQ(party_send(&chat, service_peer(&arena), "no handler", NULL), TP_OK);
    lose_link_after_return(&chat);
    CHECK_EQ(chat.returned.reason, TP_ERR_UNSUPPORTED);
    client_resume_acks(client);

    client_pause_acks(client);
    send_bytes("no gate's to say", 3);
    lose_link_after_return(&gate);
    CHECK_EQ(gate.returned.reason, TP_ERR_PROTOCOL);
    client_resume_acks(client);
    party_leave(&chat);
    close_all();
}

/* The backend cannot even send the ERROR: its limit of unacknowledged messages is reached, and the
 * hub acknowledges nothing. */
static void a_message_that_cannot_be_returned_comes_back_when_the_link_is_lost(void) {
    party chat;
    hub = hub_open_default();
    service_init(&arena, hub, "arena");
    arena.handlers.bus.on_message = NULL;
    arena.options.bus.max_unconfirmed = 1;
    service_start(&arena);
    party_join(&chat, hub, "chat", "c");
    hub_pause_acks(hub);
    tp_packet *packet = text_packet("the one");
    CHECK_EQ(
        tp_lanclient_send(tp_backend_client(arena.backend), party_id(&chat), packet, NULL), TP_OK);
    tp_packet_release(packet);
    AWAIT(chat.messages == 1);
    CHECK_EQ(party_send_all(&chat, "arena", "no handler", NULL),
        TP_OK); /* a copy acknowledges nothing */
    AWAIT(chat.returns == 1);
    CHECK_EQ(chat.returned.reason, TP_ERR_PEER_LOST);
    AWAIT(arena.ups == 2);
    hub_resume_acks(hub);
    party_leave(&chat);
    service_leave(&arena);
    hub_close(hub);
}

CHECK_MAIN(CASE(a_start_during_a_stop_is_refused), CASE(a_join_sent_twice_is_one_join),
    CASE(a_newer_session_replaces_the_one_in_its_slot),
    CASE(messages_reach_the_player_of_their_session), CASE(malformed_gate_messages_are_returned),
    CASE(players_and_gates_beyond_the_limits_are_refused),
    CASE(a_gate_is_admitted_when_another_is_gone),
    CASE(gates_with_equal_session_ids_are_distinguished),
    CASE(other_bus_traffic_reaches_the_service), CASE(a_send_that_cannot_be_done_names_the_error),
    CASE(invalid_options_are_refused), CASE(messages_allocate_nothing_after_warm_up),
    CASE(a_returned_message_comes_back_once),
    CASE(a_message_that_cannot_be_returned_comes_back_when_the_link_is_lost))
