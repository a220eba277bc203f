"""Signed artefacts: manifests, roles and keys, publishing, verification."""
