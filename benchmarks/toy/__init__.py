"""The toy worlds' demo and study, and what they measure and draw."""
