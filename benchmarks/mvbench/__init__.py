"""MVBench: multiple-choice questions in twenty tasks."""
