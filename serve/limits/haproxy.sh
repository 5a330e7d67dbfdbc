#!/bin/sh
# RAY_SERVE_HAPROXY_BINARY_PATH names this file: it hardens Ray's configuration of HAProxy, then becomes HAProxy.
exec "${ASSAY_PYTHON:-python3}" -I "$(dirname "$0")/run_haproxy.py" "$@"
