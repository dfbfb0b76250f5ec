#!/usr/bin/env bash
# Docker for the tests marked `docker`, from Debian's own packages; says so where it cannot.
set -euo pipefail

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  if [[ ! -x /usr/sbin/dockerd ]]; then
    echo "not root on Debian: docker.io is not installed, tests marked docker will be skipped" >&2
  fi
  exit 0
fi

if [[ ! -x /usr/sbin/dockerd ]] || ! command -v iptables >/dev/null; then
  echo "installing docker.io and iptables" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables
fi

if docker compose version >/dev/null 2>&1; then
  exit 0
fi

# Debian 12 has compose 1 only; the plugin of Debian 13 needs nothing newer than libc 2.34.
echo "installing the compose plugin" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
fetch_plugin() {
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  cp /etc/apt/sources.list.d/debian.sources "$work/trixie.sources"
  sed -i 's/^Suites: .*/Suites: trixie/' "$work/trixie.sources"
  local options=(
    -o "Dir::Etc::sourcelist=$work/trixie.sources" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache"
  )
  chmod 755 "$work"
  apt-get "${options[@]}" update -qq
  (cd "$work" && apt-get "${options[@]}" download -qq docker-compose)
  dpkg-deb -x "$work"/docker-compose_*.deb "$work/root"
  mkdir -p "$plugins"
  cp "$work/root/usr/libexec/docker/cli-plugins/docker-compose" "$plugins/"
}
fetch_plugin || echo "no compose plugin to be had: its tests will be skipped" >&2
