/*
 * The wall clock is wrong, and then it is put right: tokens and bans. Also lists that are read
 * again and have lines twice, none, or wrong ones, and what the log says of each.
 *
 * The build has hello.c and program_files.c ask told_wall_ms() for the time, so that nothing here
 * depends on the real one; what they count down by the steady clock is hours.
 */
#include "core/config/config.h"
#include "os/process.h"
#include "wan_stage.h"
#include "wanserver/program/program_files.h"

#define T     UINT64_C(1800000000)
#define HOUR  UINT64_C(3600)
#define YEARS (UINT64_C(10000) * HOUR)

static wan_stage stage;

uint64_t told_wall_ms(void);
static _Atomic uint64_t told_s = T;

uint64_t told_wall_ms(void) {
    return atomic_load(&told_s) * 1000;
}

static void tell(uint64_t seconds) {
    atomic_store(&told_s, seconds);
}

/* ---- the log --------------------------------------------------------------------------------- */

static struct {
    tp_mutex mutex;
    size_t size;
    char text[65536];
} said;

static void keep(void *unused, const char *lines, size_t n) {
    (void)unused;
    tp_mutex_lock(&said.mutex);
    size_t room = sizeof said.text - 1 - said.size;
    n = n < room ? n : room;
    memcpy(said.text + said.size, lines, n);
    said.size += n;
    tp_mutex_unlock(&said.mutex);
}

static void log_begin(void) {
    tp_mutex_init(&said.mutex);
    said.size = 0;
    const tp_log_options options = {.size = sizeof options, .level = TP_LOG_INFO, .sink = keep};
    REQUIRE(tp_log_open(&options) == TP_OK);
}

/* What has been said since the last look has a line with both. */
static bool log_says(const char *level, const char *text) {
    tp_log_flush();
    tp_mutex_lock(&said.mutex);
    said.text[said.size] = '\0';
    bool found = false;
    for (char *at = strstr(said.text, text); at != NULL && !found; at = strstr(at + 1, text)) {
        char *begin = at;
        while (begin > said.text && begin[-1] != '\n') {
            begin--;
        }
        const char *head = strstr(begin, level);
        found = head != NULL && head < at;
    }
    tp_mutex_unlock(&said.mutex);
    return found;
}

static void log_forget(void) {
    tp_log_flush();
    tp_mutex_lock(&said.mutex);
    said.size = 0;
    tp_mutex_unlock(&said.mutex);
}

static void log_end(void) {
    tp_log_close();
    tp_mutex_destroy(&said.mutex);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void begin(void) {
    tell(T);
    log_begin();
    wan_stage_init(&stage, TP_AUTH_TOKEN);
}

static void end(void) {
    wan_stage_close(&stage);
    log_end();
}

static wan_login mint(uint64_t expiry) {
    wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    REQUIRE(tp_token_mint(&stage.ring[0], expiry, stage.key.public_key, &identity, login.token,
                login.secret) == TP_OK);
    return login;
}

static bool is_let_in(const wan_login *login) {
    return wan_stage_lets_in(&stage, login);
}

static bool new_one_is_let_in(void) {
    const wan_login login = mint(atomic_load(&told_s) + 60);
    return is_let_in(&login);
}

static void a_clock_that_was_ahead_keeps_nobody_out(void) {
    begin();
    wan_stage_open(&stage);
    tell(T + 2 * HOUR);
    const wan_login used = mint(T + 2 * HOUR + 60);
    CHECK(is_let_in(&used));
    tell(T + 2 * HOUR + 120);
    CHECK(new_one_is_let_in());
    tell(T + 120);
    CHECK(new_one_is_let_in());
    CHECK_EQ(wan_stats(&stage).replayed, 0);
    /* The one that was used stays used, when its time comes too. */
    CHECK(!is_let_in(&used));
    CHECK_EQ(wan_stats(&stage).long_lived, 1);
    tell(T + 2 * HOUR);
    CHECK(!is_let_in(&used));
    CHECK_EQ(wan_stats(&stage).replayed, 1);
    CHECK(new_one_is_let_in());
    end();
}

static void a_clock_that_was_behind_keeps_nobody_out(void) {
    begin();
    wan_stage_open(&stage);
    tell(T - 2 * HOUR);
    const wan_login used = mint(T - 2 * HOUR + 60);
    CHECK(is_let_in(&used));
    tell(T);
    CHECK(!is_let_in(&used));
    CHECK_EQ(wan_stats(&stage).expired, 1);
    CHECK(new_one_is_let_in());
    tell(T - 2 * HOUR);
    CHECK(!is_let_in(&used));
    CHECK_EQ(wan_stats(&stage).replayed, 1);
    end();
}

static void who_lives_too_long_is_refused_and_named(void) {
    begin();
    stage.options.max_token_life_s = 600;
    wan_stage_open(&stage);
    const wan_login just_right = mint(T + 600);
    const wan_login too_long = mint(T + 601);
    const wan_login milliseconds = mint(1000 * (T + 60));
    CHECK(!is_let_in(&too_long));
    CHECK(log_says("warning", "wan: refused 127.0.0.1:"));
    CHECK(log_says("warning", "its token lives too long: it would be good for 601 s more, and "
                              "max_token_life is 600 s"));
    CHECK(!is_let_in(&milliseconds));
    CHECK_EQ(wan_stats(&stage).long_lived, 2);
    CHECK_EQ(wan_stats(&stage).diffie_hellman, 0);
    CHECK(is_let_in(&just_right));
    tell(T + 1); /* it was not used up */
    CHECK(is_let_in(&too_long));
    CHECK_EQ(wan_stats(&stage).replayed, 0);
    end();
}

/* ---- bans ------------------------------------------------------------------------------------ */

static tp__settings settings;
static tp__files files;
static char report[TP__CONFIG_REPORT];

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    (void)fputs(text, file);
    CHECK_EQ(fclose(file), 0);
}

/* A server without tokens, and this list of bans in force. */
static void begin_with_bans(const char *text) {
    tell(T);
    log_begin();
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    memset(&settings, 0, sizeof settings);
    settings.auth = TP_AUTH_OPEN;
    (void)snprintf(
        settings.bans, sizeof settings.bans, "wan_clock-%" PRIu64 ".bans.tmp", tp_process_id());
    (void)snprintf(settings.key_file, sizeof settings.key_file, "wan_clock-%" PRIu64 ".key.tmp",
        tp_process_id());
    char key[TP_KEY_TEXT];
    write_text(settings.key_file, tp_key_format(stage.key.private_key, key));
    write_text(settings.bans, text);
}

static void load(void) {
    REQUIRE(tp__files_load(&settings, &files, report, sizeof report) == TP_OK);
    tp__files_ban(&files, stage.base.server);
}

static void reload(const char *text) {
    log_forget();
    write_text(settings.bans, text);
    tp__files_reload(&settings, &files, stage.base.server);
}

static void end_with_bans(void) {
    CHECK_EQ(remove(settings.bans), 0);
    CHECK_EQ(remove(settings.key_file), 0);
    end();
}

static bool anybody_is_let_in(void) {
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    return is_let_in(&login);
}

#define UNTIL_T_AND_AN_HOUR "127.0.0.0/8 1800003600\n10.0.0.0/8\n"

static void bans_that_a_wrong_clock_skipped_are_put_right(void) {
    begin_with_bans(UNTIL_T_AND_AN_HOUR);
    tell(T + YEARS);
    load();
    CHECK(anybody_is_let_in());
    tell(T);
    reload(UNTIL_T_AND_AN_HOUR); /* the same */
    CHECK(!anybody_is_let_in());
    end_with_bans();
}

static void bans_that_a_wrong_clock_prolonged_are_put_right(void) {
    begin_with_bans(UNTIL_T_AND_AN_HOUR);
    tell(1000); /* 1970: a machine that has no clock of its own */
    load();
    CHECK(!anybody_is_let_in());
    tell(T + 2 * HOUR);
    reload(UNTIL_T_AND_AN_HOUR);
    CHECK(anybody_is_let_in());
    end_with_bans();
}

/* Without being asked, and who is there and banned is sent away. */
static void bans_follow_the_clock_by_themselves(void) {
    begin_with_bans(UNTIL_T_AND_AN_HOUR);
    tell(T + 2 * HOUR);
    load();
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    log_forget();
    tp__files_follow_clock(&files, stage.base.server);
    CHECK(!log_says("", "bans:"));
    wan_check_echo(player, "still here");

    tell(T);
    tp__files_follow_clock(&files, stage.base.server);
    CHECK(log_says("warning", "the clock went back by 7"));
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    wan_close(player, false);
    CHECK(!anybody_is_let_in());

    tell(T + 2 * HOUR);
    tp__files_follow_clock(&files, stage.base.server);
    CHECK(log_says("warning", "the clock went ahead by 7"));
    CHECK(anybody_is_let_in());
    CHECK_EQ(files.bans_in_force, 1);
    end_with_bans();
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void a_line_twice_is_warned_of_and_the_rest_counts(void) {
    begin_with_bans("10.0.0.1\n10.0.0.1\n");
    load();
    CHECK(log_says("warning", ".bans.tmp:2: is given again: line 1 has it"));
    reload("127.0.0.1\n10.0.0.1\n127.0.0.1 1\n");
    CHECK(log_says("warning", ".bans.tmp:3: is given again: line 1 has it; the longer ban counts"));
    CHECK(log_says("info", "bans: 2 listed, 2 in force (1 before)"));
    CHECK(log_says("info", "bans: read again"));
    CHECK(!anybody_is_let_in());
    end_with_bans();
}

static void nobody_left_is_said_loudly(void) {
    begin_with_bans("127.0.0.1\n10.0.0.1\n");
    load();
    reload("# all gone\n");
    CHECK(log_says("warning", "NOBODY IS BANNED ANY MORE (before: 2): the list is empty"));
    CHECK(anybody_is_let_in());
    reload("");
    CHECK(!log_says("", " warning ")); /* there were none */
    reload("127.0.0.1 1800003600\n");
    CHECK(!log_says("", " warning "));
    CHECK(!anybody_is_let_in());
    tell(T + 2 * HOUR);
    reload("127.0.0.1 1800003600\n");
    CHECK(log_says("warning", "NOBODY IS BANNED ANY MORE (before: 1): all that are listed"));
    CHECK(anybody_is_let_in());
    end_with_bans();
}

static void a_wrong_line_is_named_and_changes_nothing(void) {
    begin_with_bans("127.0.0.1\n");
    load();
    reload("10.0.0.1\n127.0.0.300 \t# him\n");
    CHECK(log_says("error", "bans: not read again, the old ones stay"));
    CHECK(log_says("error", ".bans.tmp:2: '127.0.0.300 ?# him': expected a network"));
    CHECK(!anybody_is_let_in());
    reload("10.0.0.1\n");
    CHECK(anybody_is_let_in());
    end_with_bans();
}

static void without_memory_the_bans_stay(void) {
    begin_with_bans("127.0.0.1\n");
    load();
    write_text(settings.bans, "10.0.0.1\n");
    log_forget();
    tp__memory_fail_after(1);
    tp__files_reload(&settings, &files, stage.base.server);
    tp__memory_fail_after(-1);
    CHECK(log_says("error", "bans: not read again, the old ones stay"));
    CHECK(!anybody_is_let_in());
    reload("10.0.0.1\n");
    CHECK(anybody_is_let_in());
    end_with_bans();
}

CHECK_MAIN(CASE(a_clock_that_was_ahead_keeps_nobody_out),
    CASE(a_clock_that_was_behind_keeps_nobody_out), CASE(who_lives_too_long_is_refused_and_named),
    CASE(bans_that_a_wrong_clock_skipped_are_put_right),
    CASE(bans_that_a_wrong_clock_prolonged_are_put_right),
    CASE(bans_follow_the_clock_by_themselves), CASE(a_line_twice_is_warned_of_and_the_rest_counts),
    CASE(nobody_left_is_said_loudly), CASE(a_wrong_line_is_named_and_changes_nothing),
    CASE(without_memory_the_bans_stay))
