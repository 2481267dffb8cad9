/*
 * The back ends of Linux, best first.
 */
#include "os/linux/epoll_port.h"

const tp__port_backend *const tp__port_backend_list[] = {&tp__epoll_backend, NULL};

tp_err tp__port_platform_start(void) {
    return TP_OK;
}
