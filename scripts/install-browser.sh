#!/bin/sh
# Installs Debian's chromium for the report's browser tests, unless it is there already.
# Those tests skip where there is no browser, so a machine without apt is told so and goes on.
set -eu

if command -v chromium >/dev/null 2>&1; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-browser: no chromium and no apt-get here; install chromium yourself, or the browser tests skip" >&2
    exit 0
fi

root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "install-browser: needs root to install chromium; without it the browser tests skip" >&2
        exit 0
    fi
    root="sudo"
fi

$root apt-get update -q
$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium fonts-liberation
chromium --version
