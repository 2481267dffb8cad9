/* The frames in a player's stream, taken out of the pieces in which it comes. Header-only. */
#ifndef TWINPORT_BENCH_FRAMES_H
#define TWINPORT_BENCH_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { frame_header = 4, frame_data = 0, frame_ping = 1, frame_pong = 2, frame_ping_most = 32 };

typedef struct frame_reader {
    unsigned char *part; /* frame_capacity() bytes of the caller: an incomplete frame */
    size_t have;
} frame_reader;

/* `size`: of the largest DATA payload that is accepted. */
static inline size_t frame_capacity(size_t size) {
    return frame_header + (size > frame_ping_most ? size : frame_ping_most);
}

static inline size_t frame_size(const unsigned char *frame) {
    return frame_header + ((size_t)frame[0] | (size_t)frame[1] << 8 | (size_t)frame[2] << 16);
}

static inline void frame_begin(unsigned char *frame, size_t size) {
    frame[0] = (unsigned char)size;
    frame[1] = (unsigned char)(size >> 8);
    frame[2] = (unsigned char)(size >> 16);
    frame[3] = frame_data;
}

/* Calls `take` with each whole frame, header included. False: a frame is too large, or `take`
 * returned false. */
static inline bool frames_take(frame_reader *reader, size_t room, const unsigned char *bytes,
    size_t size, bool (*take)(void *context, unsigned char *frame, size_t frame_size),
    void *context) {
    while (size > 0) {
        size_t wanted = reader->have < frame_header ? frame_header : frame_size(reader->part);
        if (wanted > room) {
            return false;
        }
        size_t piece = wanted - reader->have < size ? wanted - reader->have : size;
        memcpy(reader->part + reader->have, bytes, piece);
        reader->have += piece;
        bytes += piece;
        size -= piece;
        if (reader->have >= frame_header && reader->have == frame_size(reader->part)) {
            reader->have = 0;
            if (!take(context, reader->part, frame_size(reader->part))) {
                return false;
            }
        }
    }
    return true;
}

#endif
