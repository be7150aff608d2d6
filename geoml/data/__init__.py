"""What training sees: scenes with labels, splits by ground, chips, augmentation, statistics."""
