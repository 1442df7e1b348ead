#!/bin/sh
# Shows the main job: installs missing packages, builds, starts three nodes with the counter,
# increments through two of them, kills the leader with -9, continues, restarts it, and compares the
# three. Ends with the verdict, and leaves only the build behind.
set -eu
cd "$(dirname "$0")/.."

scripts/install-deps.sh

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ]; then say() { printf '\n== %s\n' "$*"; }; fi

connectd=build/release/bin/connectd
plugin=build/release/plugins/libcounter.so
directory=$(mktemp -d "${TMPDIR:-/tmp}/connectd-quickstart.XXXXXX")
pid_1='' pid_2='' pid_3=''

clean_up() {
  verdict=$?
  trap - EXIT INT TERM
  for pid in $pid_1 $pid_2 $pid_3; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ "$verdict" -ne 0 ]; then
    for id in 1 2 3; do
      [ -f "$directory/$id.log" ] || continue
      printf '\n-- the end of the log of node %s:\n' "$id"
      tail -n 20 "$directory/$id.log"
    done
    printf '\nquickstart: FAILED\n'
  fi
  rm -rf "$directory"
  exit "$verdict"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# Node N: peers at 7100+N, clients at 7200+N, HTTP at 7300+N, as in conf/.
client_port() { echo $((7200 + $1)); }
http_port() { echo $((7300 + $1)); }

start() {
  "$connectd" --config "conf/node$1.yaml" --plugin "$plugin" --data-dir "$directory/$1" \
    </dev/null >>"$directory/$1.log" 2>&1 &
  eval "pid_$1=$!"
}

# call NODE REQUEST: one request by nc, and its answer.
call() { printf '%s\n' "$2" | nc -N -w 10 127.0.0.1 "$(client_port "$1")"; }

# field NODE NAME: a field of /v1/status; nothing while the node does not answer.
field() {
  curl -sf --max-time 2 "http://127.0.0.1:$(http_port "$1")/v1/status" 2>/dev/null |
    python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]))' "$2" 2>/dev/null || true
}

# until_true SECONDS WHAT COMMAND...: polls the command until it succeeds.
until_true() {
  seconds=$1 what=$2
  shift 2
  end=$(($(date +%s) + seconds))
  until "$@"; do
    [ "$(date +%s)" -lt "$end" ] || fail "not within $seconds s: $what"
    sleep 0.1
  done
}

find_leader() {
  leader=''
  for id in "$@"; do
    [ "$(field "$id" role)" = leader ] && leader=$id && return 0
  done
  return 1
}

equal_everywhere() {
  facts=''
  for id in 1 2 3; do
    fact="$(field "$id" applied_index) $(field "$id" digest)"
    case $fact in ' ' | *None*) return 1 ;; esac
    facts="$facts$fact
"
  done
  [ "$(printf '%s' "$facts" | sort -u | wc -l)" -eq 1 ]
}

# increment NODE EXPECTED
increment() {
  value=$(call "$1" incr)
  printf '   node %s: incr -> %s\n' "$1" "$value"
  [ "$value" = "$2" ] || fail "node $1 answered '$value' where $2 was due"
}

say 'Building (the first time takes a few minutes)'
build() {
  cmake --preset release && cmake --build --preset release --target connectd counter_plugin
}
build >"$directory/build.log" 2>&1 || { tail -n 40 "$directory/build.log"; fail 'the build failed'; }
printf '   %s\n' "$("$connectd" --version | head -n 1)"

for id in 1 2 3; do
  for port in $((7100 + id)) "$(client_port $id)" "$(http_port $id)"; do
    nc -z 127.0.0.1 "$port" 2>/dev/null && fail "port $port of this machine is in use: stop what listens there"
  done
done

say 'Three nodes with the counter plugin'
for id in 1 2 3; do start $id; done
until_true 30 'three nodes elect a leader' find_leader 1 2 3
printf '   node %s is the leader\n' "$leader"
old_leader=$leader
follower=$((leader % 3 + 1))
other=$((follower % 3 + 1))

say 'Increments by nc: through the leader, and through a follower'
increment "$leader" 1
increment "$follower" 2
increment "$leader" 3
increment "$follower" 4

say "kill -9: node $old_leader, the leader"
victim=''
eval "victim=\$pid_$old_leader"
kill -9 "$victim"
wait "$victim" 2>/dev/null || true
eval "pid_$old_leader="
increment "$follower" 5
increment "$other" 6
until_true 30 'the other two elect a leader' find_leader "$follower" "$other"
printf '   node %s is the leader now; nothing was lost\n' "$leader"

say "Starting node $old_leader again"
start "$old_leader"
until_true 30 'all three have applied the same' equal_everywhere
increment "$old_leader" 7
until_true 30 'all three have applied the same' equal_everywhere

say 'The three, side by side'
printf '   node  role      value  applied  digest\n'
for id in 1 2 3; do
  value=$(call $id get)
  printf '   %-5s %-9s %-6s %-8s %s\n' "$id" "$(field $id role)" "$value" "$(field $id applied_index)" "$(field $id digest)"
  [ "$value" = 7 ] || fail "node $id holds $value, not 7"
done
until_true 10 'equal digests' equal_everywhere

for id in 1 2 3; do
  eval "kill -TERM \$pid_$id"
done
for id in 1 2 3; do
  eval "wait \$pid_$id" || fail "node $id did not stop cleanly"
  eval "pid_$id="
done

say 'Good: 7 increments, a leader killed, three equal nodes'
