#!/bin/sh
# Builds connectd and runs its tests. Without options: the checks that every change must pass.
# With --full: everything that continuous integration runs; ends with ctest's summary and the verdict.
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--quick | --full | --weekly | --soak MINUTES | --help]

  (no option)     Build the release preset; run the simulator for a minute on new seeds, at least
                  eight mutants, and all tests without the label slow, real clusters included (budget:
                  12 minutes on two cores)
  --quick         Build the release preset; run the same tests without real clusters
  --full          Run the checks of continuous integration: the simulator for 5 minutes; all mutants;
                  clang-tidy on what has changed, newest first;
                  under AddressSanitizer with UndefinedBehaviorSanitizer the unit tests and 20 simulator
                  seeds, under ThreadSanitizer the unit tests of the modules that have threads, and under
                  both rounds of a real cluster; all tests, clang's
                  thread-safety analysis included; 100 simulator seeds for each workload (budget:
                  60 minutes on two cores)
  --weekly        Run clang-tidy on all files, then --full
  --soak MINUTES  Build the release preset; run the simulator on all cores. Resumes at the seed where
                  the last soak stopped; build/soak has the totals, and docs/soak-totals.md gets a row
  --help          Print this help

Environment of --full: CONNECTD_SIM_MINUTES   simulator minutes [5]
                       CONNECTD_TIDY_SECONDS  clang-tidy fails if it takes longer [1500]
                       CONNECTD_SANITIZERS=0  no sanitizer builds
TEXT
}

phase_start=$(date +%s)
phase() {
  now=$(date +%s)
  [ -z "${phase_name:-}" ] || echo "== $phase_name: $((now - phase_start)) s"
  phase_name=$1
  phase_start=$now
  echo "== $phase_name"
}

# A build from nothing takes half the time when files are compiled together; one that is there stays as it is.
configure() {
  if [ -f "build/$1/CMakeCache.txt" ]; then
    cmake --preset "$1" >/dev/null
  else
    cmake --preset "$1" -DCONNECTD_UNITY=ON >/dev/null
  fi
}

build_release() {
  phase "packages"
  scripts/install-deps.sh
  phase "release build"
  configure release
  cmake --build --preset release
}

# Builds only what runs under the sanitizer. $2: unit tests; $3: more targets; $4: their tests.
sanitized() {
  preset=$1
  phase "$preset build"
  configure "$preset"
  # shellcheck disable=SC2046,SC2086 # lists
  cmake --build --preset "$preset" --target $(printf '%s_test ' $2) connectd counter_plugin kv_plugin echo_plugin $3
  phase "$preset tests"
  # 20 seeds of the simulator: seven of each workload.
  # shellcheck disable=SC2086 # a list
  CONNECTD_SIM_SEEDS=7 CONNECTD_CORE_SEEDS=100 ctest --preset "$preset" --no-tests=error --parallel 2 \
    -R "^($(echo $2 | tr ' ' '|')$4)\$"
  CONNECTD_BUILD_DIR="build/$preset" python3 tests/cluster/kill_rounds.py test_counter --rounds 5
}

full() {
  phase "simulator"
  scripts/simulate.py --minutes "${CONNECTD_SIM_MINUTES:-5}"
  phase "mutants"
  scripts/mutants.sh
  if [ "${1:-}" != "tidied" ]; then
    phase "clang-tidy on changed files"
    scripts/check-clang.py tidy --seconds "${CONNECTD_TIDY_SECONDS:-1500}"
  fi
  if [ "${CONNECTD_SANITIZERS:-1}" != 0 ]; then
    sanitized dev "base auth config conversation net tls wire raft storage plugin transport admin ctl node offline client app \
      kv lin sim" "connectctl fuzz_peer_frames fuzz_framings fuzz_log_segments fuzz_snapshot_files fuzz_codecs \
      fuzz_configuration fuzz_values" "|fuzz_corpus.*"
    # The modules with more than one thread.
    sanitized tsan "auth base net tls storage plugin transport admin node client app" "" ""
  fi
  phase "all tests"
  # All mutants, clang-tidy and a long simulation have run.
  CONNECTD_SIM_SEEDS=100 ctest --preset release --parallel 4 -E '^(mutants_quick|clang_tidy)$'
}

case "${1:-}" in
  "")
    [ $# -eq 0 ] || { usage >&2; exit 64; }
    build_release
    # Tests of real clusters mostly wait: the simulator has one core beside them.
    phase "tests and simulator"
    scripts/simulate.py --minutes 1 --processes 1 >build/simulator.txt 2>&1 &
    simulator=$!
    # ctest also runs the mutants of the quick tier.
    failed=0
    CONNECTD_SIM_SEEDS=10 ctest --preset release --parallel 5 -LE slow || failed=1
    wait "$simulator" || failed=1
    cat build/simulator.txt
    [ "$failed" = 0 ] || exit 1
    phase "done"
    cat <<'TEXT'
scripts/test.sh --full, which continuous integration runs, adds: 5 minutes of the simulator, all
mutants, AddressSanitizer with UndefinedBehaviorSanitizer, ThreadSanitizer, clang-tidy, clang's
thread-safety analysis, and more seeds in the simulator's tests.
TEXT
    ;;
  --quick)
    [ $# -eq 1 ] || { usage >&2; exit 64; }
    build_release
    phase "tests without real clusters"
    CONNECTD_SIM_SEEDS=100 ctest --preset release --parallel 2 -E '^(cluster\.|quickstart)' -LE slow
    ;;
  --full)
    [ $# -eq 1 ] || { usage >&2; exit 64; }
    build_release
    full
    ;;
  --weekly)
    [ $# -eq 1 ] || { usage >&2; exit 64; }
    build_release
    phase "clang-tidy on all files"
    scripts/check-clang.py tidy --all
    full tidied
    ;;
  --soak)
    case "${2:-}" in
      "" | *[!0-9]* | 0*) echo "scripts/test.sh: --soak requires a number of minutes" >&2; exit 64 ;;
    esac
    [ $# -eq 2 ] || { usage >&2; exit 64; }
    build_release
    phase "soak"
    scripts/simulate.py --minutes "$2" --processes "$(nproc)" --state build/soak/totals.json \
      --totals docs/soak-totals.md
    ;;
  --help | -h)
    usage
    ;;
  *)
    echo "scripts/test.sh: unknown option '$1'" >&2
    usage >&2
    exit 64
    ;;
esac
