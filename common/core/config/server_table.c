/*
 * The entries of settings and options that both programs have. Where the programs differ, the value
 * here is lanserver's, and wanserver's table changes it. Data only.
 *
 * A session is a connection: of a service with lanserver, of a player with wanserver.
 */
#include "core/config/server_table.h"

#include "core/config/server_settings.h"
#include "os/compiler.h"
#include "proto/frame.h"

#define DAY_MS 86400000u

#define AT(field) offsetof(tp__server_settings, field)

/* clang-format off */
static const tp__setting network[] = {
    {"listen", TP__SETTING_ADDRESS, AT(listen), .default_value = "127.0.0.1:7400", .help =
        "Address and port that services connect to: an address of this machine in the private\n"
        "network. The port is required; 0 lets the system choose a free one."},
    {"backlog", TP__SETTING_COUNT, AT(backlog), 1, 65535, .default_value = "1024",
        .unit = "connections", .help =
        "New connections that may wait until the program accepts them."},
};

static const tp__setting access[] = {
    {"allow", TP__SETTING_NETWORKS, AT(allow), .default_value = "private", .help =
        "Networks that may connect."},
    {"deny", TP__SETTING_NETWORKS, AT(deny), .default_value = "", .help =
        "Networks that are refused even if `allow` lists them. Empty: none."},
};

static const tp__setting messages[] = {
    {"max_frame", TP__SETTING_BYTES, AT(max_frame), 1024, TP_PACKET_MAX, .default_value = "1m",
        .help =
        "The largest message, including its 16 bytes of header."},
    {"queue_bytes", TP__SETTING_BYTES, AT(queue_bytes), 1024, UINT32_MAX, .default_value = "16m",
        .help =
        "Bytes that may wait to be sent to one session; at least `max_frame` plus 4."},
    {"queue_packets", TP__SETTING_COUNT, AT(queue_packets), 1, 0xFFFFFF, .default_value = "65536",
        .unit = "packets", .help =
        "Packets that may wait to be sent to one session."},
};

static const tp__setting memory[] = {
    {"reserve", TP__SETTING_BYTES, AT(reserve), 0, (uint64_t)1 << 30, .default_value = "4m",
        .help =
        "Memory for messages that is allocated at start."},
    {"memory_limit", TP__SETTING_BYTES, AT(memory_limit), 0, (uint64_t)1 << 40,
        .default_value = "0", .help =
        "Memory that messages may use in total. Beyond it the session with the largest queue is\n"
        "ended first. 0: no limit; otherwise at least 1m, `reserve` and `queue_bytes`."},
};

static const tp__setting times[] = {
    {"idle_timeout", TP__SETTING_TIME, AT(idle_timeout), 0, DAY_MS, .default_value = "60s", .help =
        "A session that sends nothing for this time, not even an answer to PING, is ended.\n"
        "0: never; otherwise at least 100ms."},
    {"ping_interval", TP__SETTING_TIME, AT(ping_interval), 0, DAY_MS, .default_value = "30s",
        .help =
        "A session that sends nothing for this time is sent PING. 0: never; otherwise at least\n"
        "100ms, and less than `idle_timeout`."},
    {"drain_timeout", TP__SETTING_TIME, AT(drain_timeout), 0, 600000, .default_value = "5s",
        .help =
        "At a stop: how long each step may take, first for acknowledgements to arrive, then for\n"
        "queues to be sent. The whole stop takes at most 2s more than this value."},
};

static const tp__setting threads[] = {
    {"io", TP__SETTING_CHOICE, AT(io), .choices = tp__io_names, .default_value = "auto", .help =
        "The system's interface for network events; auto selects the best one available."},
    {"workers", TP__SETTING_COUNT, AT(workers), 0, 64, .default_value = "0", .unit = "threads",
        .help =
        "Threads that serve the sessions. 0: one per processor."},
    {"running", TP__SETTING_COUNT, AT(running), 0, 64, .default_value = "0", .unit = "threads",
        .help =
        "iocp only: how many workers run at the same time, at most `workers`. 0: all of them."},
    {"nagle", TP__SETTING_BOOL, AT(nagle), .default_value = "no", .help =
        "TCP may delay small packets to combine them (Nagle's algorithm)."},
    {"send_buffer_zero", TP__SETTING_BOOL, AT(send_buffer_zero), .default_value = "no", .help =
        "iocp only: send from the program's memory, without the system's send buffer."},
    {"post_receive_buffers", TP__SETTING_BOOL, AT(post_receive_buffers), .default_value = "no",
        .help =
        "iocp only: each session has a receive buffer of its own while it waits for data."},
    {"receive_buffer", TP__SETTING_BYTES, AT(receive_buffer), 4096, 1048576,
        .default_value = "64k", .help =
        "Bytes that a thread reads with one call."},
    {"reserve_descriptors", TP__SETTING_COUNT, AT(reserve_descriptors), 0, 65536,
        .default_value = "16", .unit = "descriptors", .help =
        "Linux only: file descriptors that sessions never use, for the log, the bus and the files\n"
        "that are read again; at most a quarter of those that the system allows. When no others\n"
        "are left, new connections wait until one is closed."},
};

static const tp__setting scheduling[] = {
    {"priority", TP__SETTING_CHOICE, AT(priority), .choices = tp__priority_names,
        .default_value = "normal", .help =
        "Priority of this program among the programs of the machine. normal and high also ask for\n"
        "low latency; high needs a permission of the system. idle: only processor time that no\n"
        "other program wants. wanserver's default is low, so that players do not delay the bus.\n"
        "On Linux this counts only within a scheduling group: see docs/tuning.md."},
    {"processors", TP__SETTING_PROCESSORS, AT(processors), .default_value = "all", .help =
        "The processors that this program may use; the others are left to other programs."},
};

static const tp__setting logging[] = {
    {"log_level", TP__SETTING_CHOICE, AT(log_level), .choices = tp__log_level_names,
        .default_value = "info", .help =
        "The lowest level of lines that are logged; off: none."},
    {"log_file", TP__SETTING_TEXT, AT(log_file), 0, TP__LOG_FILE_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "The log file, appended to; opened again at SIGHUP (Linux only). Empty: standard error."},
};

const tp__setting_group tp__server_groups[] = {
    {TP__GROUP_NETWORK,  network,    TP_COUNT_OF(network)},
    {TP__GROUP_ACCESS,   access,     TP_COUNT_OF(access)},
    {TP__GROUP_MESSAGES, messages,   TP_COUNT_OF(messages)},
    {TP__GROUP_MEMORY,   memory,     TP_COUNT_OF(memory)},
    {TP__GROUP_TIMES,    times,      TP_COUNT_OF(times)},
    {TP__GROUP_THREADS,  threads,    TP_COUNT_OF(threads)},
    {TP__GROUP_PRIORITY, scheduling, TP_COUNT_OF(scheduling)},
    {TP__GROUP_LOG,      logging,    TP_COUNT_OF(logging)},
    {NULL, NULL, 0},
};

#undef AT
#define AT(field) offsetof(tp__program_options, field)

static const tp__setting configuration[] = {
    {"config", TP__SETTING_TEXT, AT(config), 0, TP__PROGRAM_PATH_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "The configuration file. Without it the default values\n"
        "are used."},
    {"check-config", TP__SETTING_BOOL, AT(check_config), .default_value = "no", .help =
        "Check the configuration and the files that it names,\n"
        "print their errors and exit."},
    {"print-config", TP__SETTING_BOOL, AT(print_config), .default_value = "no", .help =
        "Print an example of a configuration file with all\n"
        "settings, their ranges and defaults, and exit."},
};

static const tp__setting about[] = {
    {"help", TP__SETTING_BOOL, AT(help), .default_value = "no", .help =
        "Print this help and exit."},
    {"version", TP__SETTING_BOOL, AT(version), .default_value = "no", .help =
        "Print the version and exit."},
};
/* clang-format on */

const tp__setting_group tp__program_groups[] = {
    {TP__GROUP_CONFIGURATION, configuration, TP_COUNT_OF(configuration)},
    {TP__GROUP_PROGRAM, about, TP_COUNT_OF(about)},
    {NULL, NULL, 0},
};
