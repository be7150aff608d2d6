#!/bin/sh
# PostgreSQL as the one process of a container; makes its cluster in /data at the first start. PGPORT and PGPASSWORD.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=/data/postgres
if [ ! -s "$data/PG_VERSION" ]; then
    (umask 077 && printf %s "$PGPASSWORD" >/tmp/password)
    "$bin/initdb" -D "$data" -U postgres -A scram-sha-256 --pwfile=/tmp/password -E UTF8 --locale=C.UTF-8
    rm /tmp/password
fi
exec "$bin/postgres" -D "$data" -p "$PGPORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200
