#!/bin/sh
# Inside an image build: the pinned packages into /opt/geoml, in one layer. The words are options of `uv pip install`.
# Secrets, each for the build alone and each may stay away: ca (CA certificates), index (URL of the package index).
set -eu
secrets=/run/build
if [ -s "$secrets/ca" ]; then export PIP_CERT="$secrets/ca" SSL_CERT_FILE="$secrets/ca"; fi
if [ -s "$secrets/index" ]; then
    PIP_INDEX_URL=$(cat "$secrets/index")
    export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"
fi
export UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet uv
python3 -m venv /opt/geoml
# compiled here, since a container writes no bytecode: a flow starts in 6 seconds and not in 14
/tmp/uv/bin/uv pip install --quiet --compile-bytecode --python /opt/geoml/bin/python -c requirements.txt hatchling \
    editables "$@"
if [ "${DEVICE:-}" = cpu ]; then  # the index's torch links CUDA; what only a GPU would load later, 2 GB, can go
    /tmp/uv/bin/uv pip uninstall --quiet --python /opt/geoml/bin/python triton || true
    find /opt/geoml -path '*/nvidia/*' \( -name 'libcudnn_*' -o -name '*.bc' -o -name 'libcusolverMg*' \) -delete
fi
rm -rf /tmp/uv
