"""Order: plan, loader, planned data modules."""
