#!/bin/sh
# Inside an image build: what the words ask for, as sources of `uv pip compile`, into /opt/geoml in one layer, with the
# versions and the hashes of requirements.txt. DEVICE=cpu leaves CUDA's part out; TORCH_BACKEND=cpu takes torch's own builds.
# Secrets, each for the build alone and each may stay away: ca (CA certificates), index (URL of the package index).
set -eu
secrets=/run/build
if [ -s "$secrets/ca" ]; then export PIP_CERT="$secrets/ca" SSL_CERT_FILE="$secrets/ca"; fi
if [ -s "$secrets/index" ]; then
    PIP_INDEX_URL=$(cat "$secrets/index")
    export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"
fi
export UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
tmp=$(mktemp -d)
sed -n '/^uv==/,/[^\\]$/p' requirements.txt >"$tmp/uv.txt"
python3 -m venv "$tmp/uv"
"$tmp/uv/bin/pip" install --quiet --require-hashes --no-deps -r "$tmp/uv.txt"
uv=$tmp/uv/bin/uv
python3 -m venv /opt/geoml
hashes=--require-hashes
cp requirements.txt "$tmp/lock.txt"
if [ -n "${TORCH_BACKEND:-}" ]; then  # other files than those of the lock, by version alone
    hashes=--verify-hashes
    sed -i '/^torch\(vision\)\{0,1\}==/,/[^\\]$/d' "$tmp/lock.txt"
fi
"$uv" pip compile --quiet --no-annotate --no-header ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} \
    --python /opt/geoml/bin/python -c requirements.txt "$@" -o "$tmp/wanted.txt"
# compiled here, since a container writes no bytecode: a flow starts in 6 seconds and not in 14
"$uv" pip install --quiet --compile-bytecode "$hashes" --no-deps --only-binary :all: --no-binary version-parser \
    --build-constraints requirements.txt ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} \
    --python /opt/geoml/bin/python -c "$tmp/lock.txt" -r "$tmp/wanted.txt"
if [ "${DEVICE:-}" = cpu ]; then  # the index's torch links CUDA; what only a GPU would load later, 2 GB, can go
    "$uv" pip uninstall --quiet --python /opt/geoml/bin/python triton || true
    find /opt/geoml -path '*/nvidia/*' \( -name 'libcudnn_*' -o -name '*.bc' -o -name 'libcusolverMg*' \) -delete
fi
rm -rf "$tmp"
