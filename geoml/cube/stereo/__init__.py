"""Heights from two views: sensor models, matching and triangulation."""
