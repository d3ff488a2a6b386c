#!/usr/bin/env bash
# /etc/greenboot/check/required.d: is this boot good? MicroShift must run the car, and the release must say
# itself that it could drive. Greenboot rolls the system back, never the app: that goes back by Git.
set -uo pipefail
page=${EDGECAR_PAGE:-http://127.0.0.1:30887}
patience_s=${EDGECAR_PATIENCE_S:-300}
say() { echo "edgecar: $*" >&2; }

if command -v microshift >/dev/null; then
  microshift healthcheck -v=2 --timeout="${patience_s}s" --namespace edgecar --deployments edgecar-car ||
    { say "the deployment edgecar-car is not ready"; exit 1; }
fi
until=$((SECONDS + patience_s))
while true; do
  answer=$(curl --silent --show-error --max-time 5 --write-out ' %{http_code}' "$page/readyz" 2>&1)
  [ "${answer##* }" = 200 ] && { say "could drive"; exit 0; }
  [ $SECONDS -ge $until ] && { say "could not drive after $patience_s s: $answer"; exit 1; }
  sleep 2
done
