#!/usr/bin/env bash
# Runs a command with private directories where Samba insists on fixed paths, and with the domain
# in DIRECTORY at /var/lib/samba/dc, whatever its real path (which Samba writes into its files).
#
#   unshare -m --propagation private samba-mounts.sh DIRECTORY COMMAND…
set -euo pipefail

# Held while the tmpfs below covers the places it might lie under.
exec 8<"$1"
shift
for dir in /run/samba /var/lib/samba /var/cache/samba /var/log/samba; do
    mkdir -p "$dir"
    mount -t tmpfs -o mode=0755 tmpfs "$dir"
done
mkdir -m 0750 /var/lib/samba/ntp_signd
mkdir -m 0700 /var/lib/samba/private
mkdir /var/lib/samba/dc
mount --bind /proc/self/fd/8/. /var/lib/samba/dc
exec 8<&-
exec "$@"
