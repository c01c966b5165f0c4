"""Which program wrote a model file; the version is the one in metadata.txt."""

VERSION = "0.1.0"
CREATED_WITH = f"SCDM for QGIS {VERSION}"
