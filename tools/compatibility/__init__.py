"""The contract of an encoder, `seaanchor.testing.check_encoder`, over the architectures of OpenCLIP, timm and
transformers with random weights; docs/compatibility.md is its table."""
