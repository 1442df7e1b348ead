#!/bin/sh
# Installs the packages that building and testing connectd require on Debian 12. Does nothing when all
# are installed. Requires root or sudo only when one is missing.
set -eu

packages="g++ cmake ninja-build ccache git pkg-config
  libboost1.81-dev libboost-program-options1.81-dev libboost-json1.81-dev
  libyaml-cpp-dev libgoogle-glog-dev libgtest-dev libgmock-dev libssl-dev libexpected-dev libfmt-dev
  libxxhash-dev libzstd-dev prometheus-cpp-dev
  clang clang-format clang-tidy
  python3 redis-tools netcat-openbsd curl sslscan iproute2 nginx-light mount util-linux e2fsprogs"

missing=""
for package in $packages; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing="$missing $package"
done
# promtool alone, for the tests of /metrics and the alerts: its package would also start a server.
promtool=""
command -v promtool >/dev/null || promtool=promtool
[ -n "$missing$promtool" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=""
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  echo "install-deps.sh: these are missing, and installing them needs root or sudo:$missing $promtool" >&2
  exit 77
fi
echo "install-deps.sh: installing$missing $promtool"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
if [ -n "$missing" ]; then
  # shellcheck disable=SC2086
  $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
if [ -n "$promtool" ]; then
  folder=$(mktemp -d)
  (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1 &&
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool &&
    $as_root install -m 755 usr/bin/promtool /usr/local/bin/promtool) ||
    echo "install-deps.sh: promtool is not there: the tests that need it are skipped" >&2
  rm -r "$folder"
fi
