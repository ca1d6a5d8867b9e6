#!/usr/bin/env bash
# One part of a preparation or a prediction, as a task of a SLURM array; docs/slurm/join.sh then makes one result of all:
#
#   parts=$(sbatch --parsable --array=1-16 --cpus-per-task=16 docs/slurm/part.sh prepare videos clips data/train <options>)
#   sbatch --dependency=afterok:"$parts" --kill-on-invalid-dep=yes docs/slurm/join.sh data/train
#
# Of a prediction each task has the GPUs of a node, one process each: --ntasks-per-node=8 --gpus-per-node=8. With more parts
# than nodes (--array=1-64%8) a node takes the next part when it has finished one, so that slow samples hold up nobody.
# Tasks that failed, alone: PARTS=16 sbatch --array=3,7 docs/slurm/part.sh <the same>; PARTS says how many there are.
#SBATCH --job-name=vidpref-part
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

count="${PARTS:-$SLURM_ARRAY_TASK_COUNT}"
if [ -z "${PARTS:-}" ] && { [ "$SLURM_ARRAY_TASK_MIN" -ne 1 ] || [ "$SLURM_ARRAY_TASK_MAX" -ne "$count" ]; }; then
    echo "the array has not the tasks 1 to N; set PARTS to the number of all parts, as PARTS=16 sbatch --array=3,7" >&2
    exit 2
fi
if [ "$1" = prepare ] && [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    set -- "$@" --workers "$SLURM_CPUS_PER_TASK"
elif [ "$1" = predict ]; then
    set -- "$@" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" --trainer.num_nodes "${SLURM_NNODES:-1}"
fi

# The shell waits for the run, which has the signal as well.
trap : USR1 TERM
status=0
srun vidpref "$@" --part "$SLURM_ARRAY_TASK_ID/$count" || status=$?
# 143 is `predict` that was stopped, 138 and 143 `prepare` that SIGUSR1 or SIGTERM ended: both go on where they were.
if [ "$status" -eq 143 ] || [ "$status" -eq 138 ]; then
    # Not $SLURM_JOB_ID: of one of the tasks that is the number of the whole array.
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
