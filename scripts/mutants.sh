#!/bin/sh
# Reintroduces known bugs one by one and shows the test that kills each (tests/mutants).
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/mutants.sh [--docs] [OPTION...] [NAME...]

Build, run each mutant NAME [all], and print a table: name, runner, seed, seconds, and the test that
kills it. Exit status 1: a mutant survives, or a run without a mutant fails.

  --docs   also put the rows into the table of docs/mutants.md
  --help   print this help

For other options see build/release/bin/mutants --help.
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
status=0
build/release/bin/mutants --markdown "$@" >"$table" || status=$?
cat "$table"
python3 tests/mutants/page.py --write build/release/bin/mutants "$table"
exit "$status"
