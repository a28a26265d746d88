#!/bin/sh
# Builds bin/caddy: Caddy, in the version that go.mod names, with Gatehouse's
# modules from this checkout.
#
# The ordinary way, for a machine that can look the module up:
#
#	xcaddy build v2.11.9 --with github.com/gatehouse-edge/gatehouse
#
# From a checkout it is this script. It hands xcaddy the module's root, where
# plugin.go imports caddymodule, and a version for it that does not exist. Both
# matter. This form, which looks the same,
#
#	xcaddy build v2.11.9 --with github.com/gatehouse-edge/gatehouse/caddymodule=./caddymodule
#
# fails: caddymodule is a directory of a module and none itself, so that go asks
# the module proxy for it. And without "@v0.0.0" go may ask for the newest version
# of what it is told to replace. A proxy's "no such module" (404, 410) makes go look
# elsewhere; any other refusal ends the build.
#
# Where xcaddy is not installed, go.mod's tool line provides it (go tool xcaddy).
#
# What xcaddy says goes to bin/xcaddy.log, and with VERBOSE=1 to the terminal.
# The usual variables of go work: GOPROXY, GOOS, GOARCH, and CGO_ENABLED=0 for a
# static program.
set -eu
cd "$(dirname "$0")"

if ! command -v go >/dev/null; then
	echo "xcaddy.sh: go is not on the PATH: see https://go.dev/doc/install" >&2
	exit 1
fi

caddy=github.com/caddyserver/caddy/v2
version=$(GOWORK=off go list -m -f '{{.Version}}' "$caddy")

if command -v xcaddy >/dev/null; then
	set -- xcaddy
else
	set -- go tool xcaddy
fi

# The flags of a plain "go build" and "go test", so that all three share what the
# build cache holds: a non-empty XCADDY_GO_BUILD_FLAGS keeps xcaddy from adding
# -trimpath and tags of its own, and it would set CGO_ENABLED to 0.
CGO_ENABLED=$(go env CGO_ENABLED)
export CGO_ENABLED GOWORK=off XCADDY_GO_BUILD_FLAGS=-trimpath=false

# Built beside its place and renamed, so that nobody ever sees half of it.
mkdir -p bin
fresh=bin/.caddy.$$
log=bin/xcaddy.log
trap 'rm -f "$fresh"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "building bin/caddy: Caddy $version with this checkout ($*; the first time takes some minutes)"
set -- "$@" build "$version" --with "github.com/gatehouse-edge/gatehouse@v0.0.0=." --output "$fresh"
if [ -n "${VERBOSE:-}" ]; then
	"$@"
elif ! "$@" >"$log" 2>&1; then
	cat "$log" >&2
	echo "xcaddy.sh: the build failed; the lines above are in $log" >&2
	exit 1
fi
mv "$fresh" bin/caddy
