#!/bin/sh
# Installs the packages that building and testing connectd require on Debian 12. Does nothing when all
# are installed. Requires root or sudo only when one is missing.
set -eu

packages="g++ cmake ninja-build ccache git pkg-config
  libboost1.81-dev libboost-program-options1.81-dev libboost-json1.81-dev
  libyaml-cpp-dev libgoogle-glog-dev libgtest-dev libgmock-dev libssl-dev libexpected-dev libfmt-dev
  libxxhash-dev libzstd-dev
  clang clang-format clang-tidy
  python3 redis-tools netcat-openbsd curl sslscan iproute2 nginx-light mount util-linux e2fsprogs"

missing=""
for package in $packages; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=""
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  echo "install-deps.sh: these packages are missing, and installing them needs root or sudo:$missing" >&2
  exit 77
fi
echo "install-deps.sh: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
