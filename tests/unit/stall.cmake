# Stalls: the product's files that read the clock are compiled with the clock of stall_fixture.h, which the
# test moves.
set(stalled engine/served server/connect server/server_run server/tasks server/worker session/end
    session/open)
list(TRANSFORM stalled REPLACE "(.+)" "../../common/core/\\1.c")

twinport_test(NAME unit.service_time SOURCES service_time.c LIBRARIES tp_core LABEL unit TIMEOUT 10)
twinport_test(NAME unit.server_stall SOURCES server_stall.c raw_peer.c ${stalled}
    LIBRARIES tp_core tp_os LABEL unit TIMEOUT 60 DEFINITIONS tp_clock_ms=stall_clock_ms)
twinport_test(NAME unit.wan_stall
    SOURCES wan_stall.c wan_peer.c raw_peer.c ../../wanserver/wanserver.c ${stalled}
    LIBRARIES tp_wanserver tp_os LABEL unit TIMEOUT 60 DEFINITIONS tp_clock_ms=stall_clock_ms)
twinport_test(NAME unit.bus_stall
    SOURCES bus_stall.c raw_peer.c ../../lanserver/bus/connections.c ../../lanclient/client/link_clock.c ${stalled}
    LIBRARIES tp_bus tp_lanclient tp_core tp_os LABEL unit TIMEOUT 60
    DEFINITIONS tp_clock_ms=stall_clock_ms)
twinport_test(NAME unit.gate_stall
    SOURCES gate_stall.c raw_peer.c ../../wanserver/gate/gate.c ../../lanclient/client/link_clock.c ${stalled}
    LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_core tp_os LABEL unit TIMEOUT 60
    DEFINITIONS tp_clock_ms=stall_clock_ms)
