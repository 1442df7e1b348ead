#!/bin/sh
# Builds connectd and runs its tests: the release build. Ends with ctest's summary and its verdict.
set -eu
cd "$(dirname "$0")/.."

scripts/install-deps.sh
cmake --preset release
cmake --build --preset release
ctest --preset release --parallel 2
