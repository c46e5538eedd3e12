#!/bin/sh
# Installs what the review's tests use: Debian's PostgreSQL, and axe-core from npm into node_modules/.
# Those tests skip where either is absent, so a machine that cannot install it is told so and goes on.
set -eu
cd "$(dirname "$0")/.."
axe=axe-core@4.14.1

install_postgresql() {
    if command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
        return
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "install-review-tools: no PostgreSQL and no apt-get here; without it its tests skip" >&2
        return
    fi
    root=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "install-review-tools: needs root to install PostgreSQL; without it its tests skip" >&2
            return
        fi
        root="sudo"
    fi
    $root apt-get update -q
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql
}

install_axe() {
    if [ -f node_modules/axe-core/axe.min.js ]; then
        return
    fi
    if ! command -v npm >/dev/null 2>&1; then
        echo "install-review-tools: no npm here; without axe-core the accessibility tests skip" >&2
        return
    fi
    npm install --silent --no-save --no-package-lock --no-audit --no-fund "$axe" ||
        echo "install-review-tools: npm could not fetch axe-core; the accessibility tests skip" >&2
}

install_postgresql
install_axe
