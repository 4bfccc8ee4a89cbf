#!/usr/bin/env bash
# A run on plain TPU VMs: this tree goes to every host of the slice, then the same command runs on
# all of them; JAX finds the hosts by itself.
#
#   deploy/tpu_vm.sh NAME ZONE --config=configs/stage1_clip.py:wan_14b \
#       --workdir=/mnt/shared/runs/clip --config.data.path=/mnt/shared/records \
#       --config.init_from=/mnt/shared/base
#
# from the top of the project, with gcloud logged in. Paths are those on the hosts, on a file system
# that all of them have mounted. The same command again continues the run.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "deploy/tpu_vm.sh: $# arguments; expected NAME ZONE FLAGS, see the head of this file" >&2
    exit 2
fi
name=$1 zone=$2
shift 2

archive=$(mktemp -t ft_jax.XXXXXX.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$name:ft_jax.tar.gz" --zone="$zone" --worker=all

printf -v flags '%q ' "$@"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
    set -e
    mkdir -p ft_jax && tar -xzf ft_jax.tar.gz -C ft_jax && cd ft_jax
    test -d .venv || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet '.[tpu]'
    exec .venv/bin/python -m ft_jax.cli.train $flags"
