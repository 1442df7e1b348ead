#!/bin/bash
# Measures writes per second and latency of three connectd nodes with the kv plugin, driven by
# redis-benchmark, and of three etcd nodes, driven by etcd_load, alternating on this machine. Both sync
# every write on a majority before the reply. Values have 128 bytes. The clients differ: compare orders
# of magnitude, not percents.
#
#   scripts/bench.sh [ROUNDS]         requires redis-benchmark; for etcd: etcd, and etcd_load built
#   scripts/bench.sh --against BUILD  compare build/release with another build, nine alternating pairs
#                                     (scripts/compare-builds.py)
#
# Never fails because of a figure. Runs in its own network namespace if it may create one.
set -eu
cd "$(dirname "$0")/.."
if [ "${CONNECTD_BENCH_INSIDE:-}" != 1 ] && [ "$(id -u)" = 0 ]; then
  CONNECTD_BENCH_INSIDE=1 exec unshare -n "$0" "$@"
fi
[ "${CONNECTD_BENCH_INSIDE:-}" != 1 ] || ip link set lo up

if [ "${1:-}" = --against ]; then
  [ $# -eq 2 ] || { echo "usage: scripts/bench.sh --against BUILD" >&2; exit 64; }
  exec scripts/compare-builds.py build/release "$2"
fi
rounds=${1:-3}
case $rounds in
  "" | *[!0-9]*)
    sed -n 's/^# \{0,1\}//; 2,11p' "$0"
    [ "$rounds" = --help ] || exit 64
    exit 0
    ;;
esac
build=$PWD/build/release
work=$(mktemp -d "${TMPDIR:-/tmp}/connectd-bench.XXXXXX")
pids=()
cleanup() {
  "$build/bin/connectctl" cluster stop "$work/connectd" >/dev/null 2>&1 || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap cleanup EXIT

start_connectd() {
  rm -rf "$work/connectd"
  "$build/bin/connectctl" cluster start "$work/connectd" --nodes 3 --plugin "$build/plugins/libkv.so" \
    >/dev/null 2>&1
  leader=$(curl -fsS 127.0.0.1:7301/v1/status | python3 -c 'import json,sys; print(json.load(sys.stdin)["leader"])')
}
stop_connectd() { "$build/bin/connectctl" cluster stop "$work/connectd" >/dev/null 2>&1; }

start_etcd() {
  rm -rf "$work"/etcd*
  local cluster="e1=http://127.0.0.1:12381,e2=http://127.0.0.1:12382,e3=http://127.0.0.1:12383"
  pids=()
  for i in 1 2 3; do
    etcd --name "e$i" --data-dir "$work/etcd$i" --initial-cluster "$cluster" \
      --listen-peer-urls "http://127.0.0.1:1238$i" --initial-advertise-peer-urls "http://127.0.0.1:1238$i" \
      --listen-client-urls "http://127.0.0.1:1237$i" --advertise-client-urls "http://127.0.0.1:1237$i" \
      >"$work/etcd$i.log" 2>&1 &
    pids+=($!)
  done
  for _ in $(seq 100); do
    endpoint=""
    for i in 1 2 3; do
      # The leader's /metrics says so.
      if curl -fsS "127.0.0.1:1237$i/metrics" 2>/dev/null | grep -q '^etcd_server_is_leader 1'; then
        endpoint=127.0.0.1:1237$i
      fi
    done
    [ -z "$endpoint" ] || return 0
    sleep 0.1
  done
  echo "etcd has no leader" >&2
  return 1
}
stop_etcd() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait "${pids[@]}" 2>/dev/null || true
  pids=()
}

redis_case() {  # title, arguments
  local title=$1
  shift
  redis-benchmark -h 127.0.0.1 -p "720$leader" -t set -d 128 -r 100000 --csv "$@" 2>/dev/null |
    tail -1 | tr -d '"' |
    awk -F, -v t="$title" '{printf "connectd  %-28s %8.0f writes/s, p50 %.3f ms, p99 %.3f ms, max %.3f ms\n", t, $2, $5, $7, $8}'
}
etcd_case() {  # title, channels, in flight, puts
  printf 'etcd      %-28s %s\n' "$1" "$("$build/bin/etcd_load" "$endpoint" "$2" "$3" "$4" 128)"
}

for round in $(seq "$rounds"); do
  echo "round $round"
  start_connectd
  redis_case "1 in flight" -c 1 -n 5000
  redis_case "64 in flight (8 x 8)" -c 8 -P 8 -n 200000
  redis_case "256 in flight (8 x 32)" -c 8 -P 32 -n 400000
  redis_case "256 connections" -c 256 -n 100000
  stop_connectd
  if command -v etcd >/dev/null && [ -x "$build/bin/etcd_load" ]; then
    start_etcd
    etcd_case "1 in flight" 1 1 2000
    etcd_case "64 in flight (8 x 8)" 8 8 20000
    etcd_case "256 in flight (8 x 32)" 8 32 30000
    stop_etcd
  else
    echo "etcd or etcd_load is not there: connectd alone"
  fi
done
