/*
 * The waiting room: who came when all places were taken, in order.
 *
 * One who comes is told his place at once. When somebody ahead of him leaves, his place changes:
 * this is told in rounds through the room, at most one each tell_ms and TP__GATE_TELLS players of
 * it in one tick, so that a crowd that comes and goes costs no more than this. A round walks from
 * the front and counts; one who leaves behind it does not matter to it, one who leaves ahead of it
 * is known by his number.
 *
 * Under the gate's mutex.
 */
#include "proto/gate.h"
#include "wanserver/gate/gate_internal.h"

bool tp__gate_tell_place(tp__gate *gate, tp__gate_player *player, uint32_t place) {
    tp_packet *packet = tp_packet_new(TP_GATE_PLACE_SIZE);
    bool taken = packet != NULL;
    if (packet) {
        tp_packet_put_u32(packet, place);
        tp_packet_put_u32(packet, gate->room.list.count);
        taken = tp_server_send(gate->server, tp__gate_session_of(player), packet);
    }
    tp_packet_release(packet);
    if (taken) {
        player->told = place;
    }
    return taken;
}

void tp__gate_wait_in_room(tp__gate *gate, tp__gate_player *player) {
    player->number = ++gate->room.last_number;
    tp__gate_set_state(player, TP__GATE_WAITING);
    tp__gate_list_append(&gate->room.list, player);
    gate->account.waited++;
    if (!tp__gate_tell_place(gate, player, gate->room.list.count)) {
        gate->room.moved = true; /* a round tries again, if he is still there */
        tp__gate_arm(gate);
    }
}

void tp__gate_leave_room(tp__gate *gate, tp__gate_player *player) {
    tp__gate_room *room = &gate->room;
    if (room->next == player) {
        room->next = player->later;
    } else if (room->next && player->number < room->next->number) {
        room->next_place--;
    }
    tp__gate_list_remove(&room->list, player);
    room->moved = true;
    tp__gate_arm(gate);
}

void tp__gate_admit(tp__gate *gate) {
    while (gate->room.list.first && gate->players < gate->options.max_players && !gate->stopping) {
        tp__gate_player *player = gate->room.list.first;
        tp__gate_leave_room(gate, player);
        gate->account.admitted++;
        tp__gate_play(gate, player);
    }
}

bool tp__gate_look_after_room(tp__gate *gate) {
    if (gate->room.list.count > 0) {
        tp__gate_find_ending(gate, 0);
        tp__gate_admit(gate);
    }
    return gate->room.list.count > 0;
}

static void begin_round(tp__gate_room *room, uint64_t now_ms, unsigned tell_ms) {
    room->next = room->list.first;
    room->next_place = 1;
    room->moved = false;
    room->again_ms = now_ms + tell_ms;
}

bool tp__gate_tell_room(tp__gate *gate, uint64_t now_ms) {
    tp__gate_room *room = &gate->room;
    if (!room->next && room->moved && now_ms >= room->again_ms) {
        begin_round(room, now_ms, gate->options.tell_ms);
    }
    for (unsigned i = 0; i < TP__GATE_TELLS && room->next; i++) {
        tp__gate_player *player = room->next;
        if (player->told != room->next_place &&
            !tp__gate_tell_place(gate, player, room->next_place)) {
            room->moved = true; /* likewise */
        }
        room->next = player->later;
        room->next_place++;
    }
    return room->list.count > 0 && (room->next || room->moved);
}
