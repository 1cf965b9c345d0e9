#!/bin/sh
# What the tests need beside Python: Mosquitto, and Node.js for TimescaleDB in WebAssembly and for
# the AsyncAPI parser. Installs what is missing as root on Debian; elsewhere says what to install.
set -eu
cd "$(dirname "$0")"
PATH="$PATH:/usr/sbin"

missing=""
command -v mosquitto >/dev/null || missing="$missing mosquitto"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"

if [ -n "$missing" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # shellcheck disable=SC2086 # several packages
        apt-get install -y -qq --no-install-recommends $missing
        # Debian starts what it installs; ours run beside it, each on a port of its own.
        case "$missing" in
            *mosquitto*) systemctl disable --now mosquitto 2>/dev/null || true ;;
        esac
    else
        echo "tests: install$missing to run every lane; the others are run" >&2
    fi
fi

command -v npm >/dev/null || exit 0
for lock in */package-lock.json; do
    directory="$(dirname "$lock")"
    installed="$directory/node_modules/.package-lock.json"
    if [ ! -e "$installed" ] || [ "$(find "$lock" -newer "$installed")" ]; then
        npm ci --prefix "$directory" --ignore-scripts --silent --no-audit --no-fund
    fi
done
