"""Who answers questions: endpoint, local model, recorded replies, ground truth."""
