# Stalls: the product's files that read the clock are compiled with the clock of stall_fixture.h, which the
# test moves.
set(stalled engine/served server/connect server/server_run server/tasks server/worker session/end
    session/open)
list(TRANSFORM stalled REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/common/core/\\1.c")
