"""Pictures to places: packages, answers, evidence and scores."""
