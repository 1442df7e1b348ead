#!/bin/sh
# Runs the fuzz targets (tests/fuzz) with libFuzzer, starting from the inputs in tests/fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/fuzz.sh [--seconds N] [--merge] [TARGET...]

Build the preset `fuzz` and run each TARGET [all] for N seconds [60]. New inputs go to
build/fuzz/corpus/TARGET, failing inputs to build/fuzz/TARGET-crash-...; the exit status is then 1.
Replay one with: build/fuzz/bin/fuzz_TARGET FILE

  --seconds N  time per target [60]
  --merge      add the new inputs that reach new code to tests/fuzz/corpus/TARGET, at most 700 bytes
               each; `ctest -R fuzz_corpus` replays them in every build
  --help       print this help
TEXT
}

seconds=60
merge=
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --merge) merge=1; shift ;;
    --seconds)
      case "${2:-}" in
        "" | *[!0-9]* | 0*) echo "fuzz.sh: --seconds requires a positive number" >&2; exit 64 ;;
      esac
      seconds=$2
      shift 2
      ;;
    -*) echo "fuzz.sh: unknown option '$1'" >&2; usage >&2; exit 64 ;;
    *) break ;;
  esac
done
all=$(cd tests/fuzz/corpus && ls)
targets=${*:-$all}
for target in $targets; do
  [ -d "tests/fuzz/corpus/$target" ] || {
    echo "fuzz.sh: unknown target '$target'; must be one of" $all >&2
    exit 64
  }
done
command -v clang++ >/dev/null || {
  echo "fuzz.sh: libFuzzer comes with clang: apt-get install clang" >&2
  exit 69
}
cmake --preset fuzz >/dev/null
for target in $targets; do
  cmake --build --preset fuzz --target "fuzz_$target" >/dev/null
done
failed=
for target in $targets; do
  found=build/fuzz/corpus/$target
  mkdir -p "$found"
  echo "== $target: $seconds s"
  "build/fuzz/bin/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -malloc_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$target-" "$found" "tests/fuzz/corpus/$target" \
    >"build/fuzz/$target.log" 2>&1 || failed="$failed $target"
  grep -E '^(SUMMARY|stat::number_of_executed_units)|DONE|BINGO|Check failed|Test unit written' \
    "build/fuzz/$target.log" || true
  if [ -n "$merge" ]; then
    "build/fuzz/bin/fuzz_$target" -merge=1 -max_len=700 "tests/fuzz/corpus/$target" "$found" \
      >"build/fuzz/$target-merge.log" 2>&1
  fi
done
if [ -n "$failed" ]; then
  echo "fuzz.sh: something was found by$failed; see build/fuzz/*.log" >&2
  exit 1
fi
