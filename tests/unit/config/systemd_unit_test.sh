#!/bin/sh
# The unit is understood by systemd without a complaint, and stays as closed as it is: an exposure
# of at most 1.2 (lower is safer; 10 is a service without any protection).
# What operators met once stays mended: a reload that may run, restarts without end, no start on an
# empty mount point.
# usage: systemd_unit_test.sh CONF_DIRECTORY
set -eu
conf=$1
limit=1.2
unit=$conf/connectd@.service
# With "+", "!" or "-" in front the reload would run outside of the sandbox, or its failure not count.
grep -qxF 'ExecReload=/usr/bin/connectctl reload %t/connectd/%i' "$unit" || {
  echo "ExecReload= is not the command that waits for the outcome" >&2
  exit 1
}
reload=$(sed -n 's/^ExecReload=\([^ ]*\).*/\1/p' "$unit")
for program in "$reload" "$(readlink -f "$reload")"; do
  grep -Eq "^ExecPaths=(.* )?-$program( |\$)" "$unit" || {
    echo "the unit forbids $program, which ExecReload= runs, or does not start without it (ExecPaths=-$program)" >&2
    exit 1
  }
done
for line in 'StartLimitIntervalSec=0' 'RequiresMountsFor=/var/lib/connectd/%i' 'StateDirectory=connectd/%i' \
  'Restart=on-failure'; do
  grep -qxF "$line" "$unit" || {
    echo "the unit has no line $line" >&2
    exit 1
  }
done
# What the service may write it must not execute. These are mounts of the unit, to which "/" does not apply.
for directory in '/' '/var/lib/connectd/%i' '/run/connectd/%i' '/tmp' '/var/tmp' '-/dev/shm'; do
  sed -n 's/^NoExecPaths=//p' "$unit" | tr ' ' '\n' | grep -qxF -e "$directory" || {
    echo "the service may execute what is in $directory (NoExecPaths=)" >&2
    exit 1
  }
done
# A port in use, a failed disk, a plugin: the next start may be better.
for code in 70 73 74 81; do
  if grep -Eq "^RestartPreventExitStatus=(.* )?$code( |\$)" "$unit"; then
    echo "the unit does not restart after exit code $code" >&2
    exit 1
  fi
done
if ! command -v systemd-analyze >/dev/null; then
  echo "SKIPPED: systemd-analyze is not installed, so connectd@.service was not checked" >&2
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# verify wants the programs and the file to exist: /bin/true stands in for both.
sed -e 's|^ExecStart=/usr/bin/connectd|ExecStart=/bin/true|' -e 's|^ExecReload=/usr/bin/connectctl|ExecReload=/bin/true|' "$conf/connectd@.service" \
  > "$work/connectd@.service"
cp "$conf/connectd.target" "$work/"
complaints=$(SYSTEMD_UNIT_PATH="$work:" systemd-analyze verify --man=no \
  "$work/connectd@n1.service" "$work/connectd.target" 2>&1 | grep -F "$work" || true)
if [ -n "$complaints" ]; then
  echo "systemd-analyze verify complains: $complaints" >&2
  exit 1
fi
# The drop-in of the manual that hands over keys and tokens is understood, too.
mkdir "$work/connectd@n1.service.d"
sed -n '/^### Keys and tokens from systemd/,/^```yaml/p' "$conf/../docs/operations.md" |
  sed -n '/^```ini/,/^```$/{/^```/!p}' > "$work/connectd@n1.service.d/credentials.conf"
if [ "$(grep -c '^LoadCredential=' "$work/connectd@n1.service.d/credentials.conf")" != 3 ]; then
  echo "docs/operations.md has not the drop-in with three LoadCredential= lines" >&2
  exit 1
fi
complaints=$(SYSTEMD_UNIT_PATH="$work:" systemd-analyze verify --man=no "$work/connectd@n1.service" 2>&1 |
  grep -F "$work" || true)
if [ -n "$complaints" ]; then
  echo "systemd-analyze verify complains of the drop-in: $complaints" >&2
  exit 1
fi
# Such a complaint is seen: a misspelt key must make one.
sed -e 's|^UMask=|UMsk=|' "$work/connectd@.service" > "$work/broken@.service"
if ! SYSTEMD_UNIT_PATH="$work:" systemd-analyze verify --man=no "$work/broken@n1.service" 2>&1 |
  grep -q UMsk; then
  echo "systemd-analyze verify does not find a misspelt key, so its silence means nothing" >&2
  exit 1
fi
cp "$conf/connectd@.service" "$work/connectd@.service"
cp "$work/connectd@.service" "$work/connectd@n1.service"
exposure=$(systemd-analyze security --offline=true --no-pager "$work/connectd@n1.service" 2>/dev/null |
  sed -n 's/.*Overall exposure level[^:]*: \([0-9.]*\).*/\1/p')
echo "exposure: ${exposure:-unknown}"
awk -v e="$exposure" -v l="$limit" 'BEGIN { exit !(e != "" && e + 0 <= l + 0) }' || {
  echo "the exposure is over $limit: systemd-analyze security --offline=true shows what to close" >&2
  exit 1
}
