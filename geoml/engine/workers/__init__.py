"""Who does the blocks: this process, others, or a cluster."""
