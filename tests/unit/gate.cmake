# The gate and the backends: their messages as bytes, and both in one process with a hub between them.

twinport_test(NAME unit.gate_codec SOURCES gate_codec.c LIBRARIES tp_proto LABEL unit TIMEOUT 10)
twinport_test(NAME unit.backend SOURCES backend.c
    LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 120)
twinport_test(NAME unit.backend_check SOURCES backend_check.c
    LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 60)
twinport_test(NAME unit.gate_room SOURCES gate_room.c raw_peer.c
    LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 180)
foreach(part check groups messages losses churn)
    twinport_test(NAME unit.gate_${part} SOURCES gate_${part}.c
        LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 180)
endforeach()
# gate.c is compiled with the test's clock, server start and mutex unlock.
twinport_test(NAME unit.gate_moments SOURCES gate_moments.c ../../wanserver/gate/gate.c
    LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 60
    DEFINITIONS tp_clock_ms=moment_clock_ms tp_server_start=moment_server_start
        tp_mutex_unlock=moment_mutex_unlock)
twinport_test(NAME unit.gate_wan SOURCES gate_wan.c wan_peer.c raw_peer.c
    LIBRARIES tp_gate tp_wanserver tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 120)
