#!/bin/sh
# Makes FILE (docker/compose.env) of compose.env.in: each @random@ becomes 128 random bits, and one that FILE has stays.
set -eu
umask 077  # for the eyes of this user alone, from the first byte on
here=$(dirname "$0")
file=${1:-$here/compose.env}
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
while IFS= read -r line; do
    case $line in
    *=@random@)
        name=${line%%=*}
        kept=$([ ! -f "$file" ] || sed -n "s/^$name=//p" "$file")
        line=$name=${kept:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
        ;;
    esac
    printf '%s\n' "$line"
done <"$here/compose.env.in" >"$new"
mv "$new" "$file"
