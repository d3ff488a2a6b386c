#!/usr/bin/env bash
# JupyterLab as Open Data Hub starts it: under NB_PREFIX, with what NOTEBOOK_ARGS says.
set -euo pipefail
. /opt/edgecar/bin/prepare-home
# shellcheck disable=SC2086
exec jupyter lab --ServerApp.ip=0.0.0.0 --ServerApp.port=8888 --ServerApp.base_url="${NB_PREFIX:-/}" \
  --no-browser ${NOTEBOOK_ARGS:-} "$@"
