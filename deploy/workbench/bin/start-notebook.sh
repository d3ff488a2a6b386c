#!/usr/bin/env bash
# JupyterLab as Open Data Hub starts it: under NB_PREFIX, with what NOTEBOOK_ARGS says.
set -euo pipefail
. /opt/edgecar/bin/prepare-home
# shellcheck disable=SC2086
exec jupyter lab --no-browser ${NOTEBOOK_ARGS:-} "$@"
