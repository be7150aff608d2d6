"""Files by which desktop programs open a run as one map: VRTs, styles, a QGIS project."""
