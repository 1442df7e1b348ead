#!/bin/sh
# Puts known bugs back, one by one, and shows by which test each is killed (tests/mutants).
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/mutants.sh [--docs] [OPTION...] [NAME...]

Builds, switches the mutants on one by one (none named: all of them), and prints a table: name, what
ran it, seed, seconds, and what killed it. Exit status 1: a mutant lives, or something breaks with no
mutant on.

  --docs   writes the table into docs/testing.md, too

The other options are those of build/release/bin/mutants; see its --help.
TEXT
}

case "${1:-}" in
  --help | -h) usage; exit 0 ;;
esac
docs=
if [ "${1:-}" = --docs ]; then
  docs=1
  shift
fi
cmake --preset release >/dev/null
cmake --build --preset release --target mutants >/dev/null
if [ -z "$docs" ]; then
  exec build/release/bin/mutants "$@"
fi
table=$(mktemp)
trap 'rm -f "$table"' EXIT
build/release/bin/mutants --markdown "$@" >"$table"
cat "$table"
awk -v table="$table" '
  /<!-- mutants: begin -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
  /<!-- mutants: end -->/ { skip = 0 }
  !skip { print }' docs/testing.md >"$table.md"
mv "$table.md" docs/testing.md
