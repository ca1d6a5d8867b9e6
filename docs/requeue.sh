#!/usr/bin/env bash
# A training run under SLURM that is put into the queue again until it is done: sbatch docs/requeue.sh --config <experiment>.yaml
#
# Two minutes before the time is over SLURM sends SIGUSR1 to `vidpref fit`, which saves the last whole optimizer step and
# ends with status 143; so it does on SIGTERM, at a preemption. The same job then goes on from there.
#SBATCH --job-name=vidpref
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

# The shell waits for the run, which has the signal as well.
trap : USR1 TERM
status=0
srun vidpref fit "$@" --trainer.devices 8 --trainer.num_nodes "${SLURM_NNODES:-1}" || status=$?
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
