#!/usr/bin/env bash
# The wheel of ONNX Runtime from PyPI gives the machine an id on Linux too: making the first session of a process writes it,
# and a database of events to be sent, into the home folder. Documents speak of Windows. The variable
# ORT_DISABLE_TELEMETRY has to be set before the first import. Seen with onnxruntime 1.32.0:
#   default: .cache/Microsoft/DeveloperTools/.onnxruntime/deviceid .cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db
#   ORT_DISABLE_TELEMETRY=1: nothing
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2
cat >session.py <<'PY'
import onnx
import onnxruntime
from onnx import TensorProto, helper

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
PY
left() { mkdir "$1" && env -u XDG_CACHE_HOME HOME="$PWD/$1" "${@:2}" env/bin/python session.py && (cd "$1" && find . -type f | sed 's|^\./||' | sort | xargs); }
by_itself=$(left default) silent=$(left quiet ORT_DISABLE_TELEMETRY=1)
echo "default: $by_itself"
echo "ORT_DISABLE_TELEMETRY=1: ${silent:-nothing}"
[[ $by_itself == *deviceid* && -z $silent ]]
