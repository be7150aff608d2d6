#!/bin/sh
# PostgreSQL as the one process of a container; makes its cluster in /data at the first start. PGPORT and PGPASSWORD,
# which is that of the user postgres from each start on.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=${1:-/data/postgres}
if [ ! -s "$data/PG_VERSION" ]; then
    printf '%s\n' "$PGPASSWORD" |
        "$bin/initdb" -D "$data" -U postgres -A scram-sha-256 --pwfile=/dev/stdin -E UTF8 --locale=C.UTF-8
fi
password=$(printf %s "$PGPASSWORD" | sed "s/'/''/g")
printf "ALTER ROLE postgres PASSWORD '%s'\n" "$password" | "$bin/postgres" --single -D "$data" postgres >/dev/null
exec "$bin/postgres" -D "$data" -p "$PGPORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200
