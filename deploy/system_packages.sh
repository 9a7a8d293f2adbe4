#!/usr/bin/env bash
# Installs Debian/Ubuntu packages when root; otherwise prints the one command to type and fails.
set -euo pipefail

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
else
  echo "System packages are missing. On Debian/Ubuntu, type:" >&2
  echo "    sudo apt-get update && sudo apt-get install -y $*" >&2
  exit 1
fi
