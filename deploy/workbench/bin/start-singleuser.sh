#!/usr/bin/env bash
# JupyterLab as JupyterHub starts it: the hub says by JUPYTERHUB_* where to listen, and who may come.
set -euo pipefail
. /opt/edgecar/bin/prepare-home
exec jupyter labhub "$@"
