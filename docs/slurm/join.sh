#!/usr/bin/env bash
# Joins the parts of an array job, see docs/slurm/part.sh: sbatch --dependency=afterok:<array> docs/slurm/join.sh OUTPUT
#SBATCH --job-name=vidpref-join
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=2:00:00
set -euo pipefail
srun vidpref prepare join "$1"
