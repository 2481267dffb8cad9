/*
 * Receive buffers that are posted to the kernel, if the port's options ask for it. Only this back
 * end has them: epoll reads into the worker's own buffer.
 *
 * Any thread. A buffer belongs to the socket whose receive is posted with it, otherwise to the
 * port's list. That is the system's lock-free list. It gives no memory back before the port's end,
 * which is also what makes its pop safe. So there are never more buffers than the largest number of
 * receives that were posted at the same time.
 */
#include <malloc.h>

#include "os/win32/iocp_port.h"

typedef struct buffer {
    SLIST_ENTRY link;
    uint8_t bytes[];
} buffer;

uint8_t *tp__iocp_buffer_take(iocp_port *port) {
    buffer *taken = (buffer *)(void *)InterlockedPopEntrySList(&port->buffers);
    if (taken == NULL) {
        taken = _aligned_malloc(sizeof *taken + port->receive_buffer, TP_CACHE_LINE);
    }
    return taken != NULL ? taken->bytes : NULL;
}

void tp__iocp_buffer_give(iocp_port *port, uint8_t *bytes) {
    buffer *given = TP_CONTAINER_OF(bytes, buffer, bytes);
    (void)InterlockedPushEntrySList(&port->buffers, &given->link);
}

void tp__iocp_buffers_free(iocp_port *port) {
    SLIST_ENTRY *next = InterlockedFlushSList(&port->buffers);
    while (next != NULL) {
        buffer *freed = TP_CONTAINER_OF(next, buffer, link);
        next = next->Next;
        _aligned_free(freed);
    }
}
