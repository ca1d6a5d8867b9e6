#!/usr/bin/env bash
# A training run on one or several nodes under SLURM, put into the queue again until it is done:
#
#   sbatch [--nodes=4] docs/slurm/fit.sh --config <experiment>.yaml --config configs/strategy/hsdp.yaml
#
# One task is one GPU: SLURM starts them all, and Lightning reads from its variables who they are. Two minutes before the
# time is over SLURM sends SIGUSR1 to `vidpref fit`, which saves the last whole optimizer step and ends with status 143; so
# it does on SIGTERM, at a preemption. The same job then goes on from there.
#SBATCH --job-name=vidpref
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

# How long a rank waits for one that is gone, before it ends with an error, is the strategy's `timeout`: in hsdp.yaml, or
# --trainer.strategy.timeout 0:30:00 with ddp.yaml and fsdp.yaml. Some clusters need the name of the network between their
# nodes: export NCCL_SOCKET_IFNAME=ib0 before sbatch, which hands it on.

# The shell waits for the run, which has the signal as well.
trap : USR1 TERM
status=0
# --wait: when one task has ended, the others have so long to end in order.
srun --wait=600 vidpref fit "$@" \
    --trainer.devices "${SLURM_NTASKS_PER_NODE:-8}" --trainer.num_nodes "${SLURM_NNODES:-1}" || status=$?
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
