"""OCI images and artifacts: their documents, and the layouts that hold them."""
