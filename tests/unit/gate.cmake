# The gate and the backends: their bytes, and both in one process with the hub between them.

foreach(part messages losses room churn)
    twinport_test(NAME unit.gate_${part} SOURCES gate_${part}.c
        LIBRARIES tp_gate tp_bus tp_lanclient tp_lanserver tp_os LABEL unit TIMEOUT 180)
endforeach()
