"""What trains, samples and judges."""
