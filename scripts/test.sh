#!/bin/sh
# Builds connectd and runs its tests. Without options: what a change is held to before it is handed in.
# With --full: all that continuous integration runs; it ends with ctest's summary and its verdict.
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--quick | --full | --weekly | --soak MINUTES | --help]

  (nothing)       release build; the simulator for a minute on new seeds; eight or more mutants; all
                  tests but those of the label slow, real clusters among them (meant to take 12 minutes on two cores)
  --quick         release build, and these tests but those of real clusters
  --full          what continuous integration runs: the simulator for 8 minutes; all mutants; the unit
                  tests, 20 seeds of the simulator and rounds of a real cluster under
                  AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer; all
                  tests, with clang's check of threads and locks;
                  100 seeds of the simulator for each workload (meant to take 60 minutes on two cores)
  --weekly        clang-tidy on all files, then the same
  --soak MINUTES  release build, and the simulator on all cores for so long. Goes on where the last
                  soak stopped; the totals are kept in build/soak, and written into docs/testing.md
  --help          this

Environment, for --full: CONNECTD_SIM_MINUTES   of the simulator [8]
                         CONNECTD_SANITIZERS=0  leaves the sanitizer builds out
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

build_release() {
  phase "packages"
  scripts/install-deps.sh
  phase "release build"
  cmake --preset release
  cmake --build --preset release
}

# Only what is run under the sanitizer is built for it. $2: more targets, $3: their tests.
sanitized() {
  preset=$1
  phase "$preset build"
  cmake --preset "$preset" >/dev/null
  # shellcheck disable=SC2086 # a list
  cmake --build --preset "$preset" --target base_test config_test wire_test raft_test storage_test \
    plugin_test transport_test admin_test ctl_test node_test offline_test client_test kv_test lin_test sim_test \
    connectd connectctl counter_plugin kv_plugin echo_plugin $2
  phase "$preset tests"
  # 20 seeds of the simulator: seven of each workload.
  CONNECTD_SIM_SEEDS=7 CONNECTD_CORE_SEEDS=100 ctest --preset "$preset" --no-tests=error --parallel 2 \
    -R "^(base|config|wire|raft|storage|plugin|transport|admin|ctl|node|offline|client|kv|lin|sim$3)\$"
  CONNECTD_BUILD_DIR="build/$preset" python3 tests/cluster/kill_rounds.py test_counter --rounds 5
}

full() {
  phase "simulator"
  scripts/simulate.py --minutes "${CONNECTD_SIM_MINUTES:-8}"
  phase "mutants"
  scripts/mutants.sh
  if [ "${CONNECTD_SANITIZERS:-1}" != 0 ]; then
    sanitized dev "fuzz_peer_frames fuzz_framings fuzz_log_segments fuzz_snapshot_files fuzz_codecs \
      fuzz_configuration fuzz_values" "|fuzz_corpus.*"
    sanitized tsan "" ""
  fi
  phase "all tests"
  # The simulator has run for long, and all mutants. Tests of real clusters wait most of their time.
  CONNECTD_SIM_SEEDS=100 ctest --preset release --parallel 3 -E '^(mutants_quick|clang_tidy)$'
}

case "${1:-}" in
  "")
    [ $# -eq 0 ] || { usage >&2; exit 64; }
    build_release
    phase "simulator"
    scripts/simulate.py --minutes 1
    # ctest has the mutants of the quick tier, too.
    phase "tests"
    CONNECTD_SIM_SEEDS=10 ctest --preset release --parallel 3 -LE slow
    phase "done"
    cat <<'TEXT'
scripts/test.sh --full runs besides: the simulator for 8 minutes, all mutants, AddressSanitizer with
UndefinedBehaviorSanitizer, ThreadSanitizer, clang's check of threads and locks, and more seeds in the simulator's tests. Continuous integration runs it.
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
    scripts/check-clang.py tidy --all --build build/release
    full
    ;;
  --soak)
    case "${2:-}" in
      "" | *[!0-9]* | 0*) echo "scripts/test.sh: --soak needs a number of minutes" >&2; exit 64 ;;
    esac
    [ $# -eq 2 ] || { usage >&2; exit 64; }
    build_release
    phase "soak"
    scripts/simulate.py --minutes "$2" --processes "$(nproc)" --state build/soak/totals.json \
      --docs docs/testing.md
    ;;
  --help | -h)
    usage
    ;;
  *)
    echo "scripts/test.sh: there is no option '$1'" >&2
    usage >&2
    exit 64
    ;;
esac
