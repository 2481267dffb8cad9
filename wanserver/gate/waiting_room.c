/*
 * The waiting room: the queue of the players who came when max_players were playing.
 *
 * A new player gets a position at once. When a player leaves, the positions behind change; these
 * are sent in rounds, at most one each place_interval_ms, and at most TP__GATE_POSITIONS_PER_TICK
 * of them in one tick. So a crowd that comes and goes costs no more than that. A round walks from
 * the head. If a player nearer the head than the cursor leaves, the next position drops by one; if
 * one nearer the tail leaves, nothing changes. Queue numbers, which rise from the head to the tail,
 * tell the two apart.
 *
 * Under the gate's mutex.
 *
 *     next_position = 1 + the number of players before the cursor
 *     waited = admitted + gave_up + the length of the queue
 */
#include <assert.h>

#include "proto/gate.h"
#include "wanserver/gate/gate_internal.h"

bool tp__gate_send_position(tp__gate *gate, tp__gate_player *player, uint32_t position) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp_packet *packet = tp_packet_new(TP_GATE_PLACE_SIZE);
    bool taken = packet != NULL;
    if (packet) {
        tp_packet_put_u32(packet, position);
        tp_packet_put_u32(packet, gate->waiting_room.list.count);
        taken = tp_server_send(gate->server, tp__gate_session_of(player), packet);
    }
    tp_packet_release(packet);
    if (taken) {
        player->position_sent = position;
    }
    return taken;
}

void tp__gate_waiting_room_add(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(!player->has_quota && gate->waiting_room.list.count < gate->options.max_waiting);
    player->queue_number = ++gate->waiting_room.last_number;
    tp__gate_set_state(player, TP__GATE_WAITING);
    tp__list_append(&gate->waiting_room.list, &player->link);
    gate->stats.waited++;
    if (!tp__gate_send_position(gate, player, gate->waiting_room.list.count)) {
        gate->waiting_room.changed = true; /* a round sends it */
        tp__gate_schedule_tick(gate);
    }
}

void tp__gate_waiting_room_remove(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_waiting_room *room = &gate->waiting_room;
    assert(tp__gate_state_of(player) == TP__GATE_WAITING);
    if (room->cursor == player) {
        room->cursor = tp__gate_player_of(player->link.next);
    } else if (room->cursor && player->queue_number < room->cursor->queue_number) {
        assert(room->next_position > 1);
        room->next_position--;
    }
    tp__list_remove(&room->list, &player->link);
    room->changed = true;
    tp__gate_schedule_tick(gate);
}

void tp__gate_admit_waiting(tp__gate *gate) {
    TP_ASSERT_LOCKED(&gate->mutex);
    while (gate->waiting_room.list.count > 0 && gate->players < gate->options.max_players &&
           !tp__lifecycle_stopping(&gate->lifecycle)) {
        tp__gate_player *player = tp__gate_player_of(gate->waiting_room.list.first);
        tp__gate_waiting_room_remove(gate, player);
        gate->stats.admitted++;
        tp__gate_admit_player(gate, player);
    }
}

bool tp__gate_waiting_room_check(tp__gate *gate) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (gate->waiting_room.list.count > 0) {
        tp__gate_find_ending(gate, 0);
        tp__gate_admit_waiting(gate);
    }
    return gate->waiting_room.list.count > 0;
}

static void waiting_room_begin_round(
    tp__gate_waiting_room *room, uint64_t now_ms, unsigned place_interval_ms) {
    assert(!room->cursor);
    room->cursor = tp__gate_player_of(room->list.first);
    room->next_position = 1;
    room->changed = false;
    room->next_round_ms = now_ms + place_interval_ms;
}

bool tp__gate_send_positions(tp__gate *gate, uint64_t now_ms) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_waiting_room *room = &gate->waiting_room;
    if (!room->cursor && room->changed && now_ms >= room->next_round_ms) {
        waiting_room_begin_round(room, now_ms, gate->options.place_interval_ms);
    }
    for (unsigned i = 0; i < TP__GATE_POSITIONS_PER_TICK && room->cursor; i++) {
        tp__gate_player *player = room->cursor;
        if (player->position_sent != room->next_position &&
            !tp__gate_send_position(gate, player, room->next_position)) {
            room->changed = true; /* the next round sends it */
        }
        room->cursor = tp__gate_player_of(player->link.next);
        room->next_position++;
    }
    return room->list.count > 0 && (room->cursor || room->changed);
}
