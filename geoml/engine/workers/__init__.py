"""Where blocks are computed: this process, others, or a cluster."""
