/* Tests of common/os/file.h. Who may read the files is checked from outside
 * (system.wanserver_program). */
#include "check.h"

#include "os/file.h"
#include "os/process.h"

static const char *path_of_test(void) {
    static char path[64];
    (void)snprintf(path, sizeof path, "os_file-%" PRIu64 ".tmp", tp_process_id());
    return path;
}

static void check_content(const char *path, const char *wanted) {
    char text[64] = {0};
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL);
    size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    CHECK_EQ(size, strlen(wanted));
    CHECK_STR(text, wanted);
}

static void a_file_is_created_once(void) {
    const char *path = path_of_test();
    (void)remove(path);
    CHECK_EQ(tp_file_create_private(path, "first", 5), TP_OK);
    check_content(path, "first");
    CHECK(!tp_file_is_shared(path));
    CHECK_EQ(tp_file_create_private(path, "second", 6), TP_ERR_STATE);
    check_content(path, "first");
    CHECK_EQ(remove(path), 0);
    CHECK_EQ(tp_file_create_private(path, "", 0), TP_OK);
    check_content(path, "");
    CHECK_EQ(remove(path), 0);
}

static void without_its_folder_no_file_is_created(void) {
    CHECK_EQ(tp_file_create_private("no such folder/file", "x", 1), TP_ERR_NO_FILE);
    CHECK(!tp_file_is_shared("no such folder/file"));
}

/* A test only: an existing file is not changed, and a missing one is not left behind. */
static void appending_can_be_tested(void) {
    const char *path = path_of_test();
    (void)remove(path);
    CHECK_EQ(tp_file_try_append(path), TP_OK);
    CHECK(fopen(path, "rb") == NULL);
    CHECK_EQ(tp_file_create_private(path, "first", 5), TP_OK);
    CHECK_EQ(tp_file_try_append(path), TP_OK);
    check_content(path, "first");
    CHECK_EQ(remove(path), 0);
    CHECK_EQ(tp_file_try_append("no such folder/file"), TP_ERR_NO_FILE);
    CHECK_NE(tp_file_try_append("."), TP_OK);
    CHECK_NE(tp_file_try_append(""), TP_OK);
}

CHECK_MAIN(CASE(a_file_is_created_once), CASE(without_its_folder_no_file_is_created),
    CASE(appending_can_be_tested))
