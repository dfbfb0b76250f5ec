#!/usr/bin/env bash
# Docker and Compose 2 for the tests marked `docker`, from Debian's own packages.
set -euo pipefail

has_docker() {
  [[ -x /usr/sbin/dockerd ]] && command -v docker docker-registry iptables ip setsid >/dev/null
}
has_compose() { docker compose version >/dev/null 2>&1; }

if has_docker && has_compose; then
  exit 0
fi
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "docker.io, docker-registry, iptables and Compose 2 are needed: install them, or be root on Debian" >&2
  exit 2
fi

if ! has_docker; then
  echo "installing docker.io, docker-registry and iptables" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    docker.io docker-registry iptables iproute2 >/dev/null
fi
if has_compose; then
  exit 0
fi

# Debian 12 has Compose 1 only; the plugin of Debian 13 needs nothing newer than libc 2.34.
echo "installing the compose plugin of Debian 13" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
sources=(/etc/apt/sources.list.d/debian.sources /etc/apt/sources.list)
mirror=$(grep -hs '^[^#]' "${sources[@]}" | grep -m 1 -oE 'https?://[^ ]+' || true)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
  "${mirror:-http://deb.debian.org/debian} trixie main" >"$work/trixie.list"
options=(
  -o "Dir::Etc::sourcelist=$work/trixie.list" -o Dir::Etc::sourceparts=-
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root
)
apt-get "${options[@]}" update -qq
(cd "$work" && apt-get "${options[@]}" download -qq docker-compose)
dpkg-deb -x "$work"/docker-compose_*.deb "$work/root"
plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
mkdir -p "$plugins"
cp "$work/root/usr/libexec/docker/cli-plugins/docker-compose" "$plugins/"
docker compose version >&2
