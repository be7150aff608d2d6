"""Things that move, followed through frames: detections are placed on the ground, get ids, and become tables."""
