"""The schema: the committed Python modules are what protoc makes of proto/.

They were made by grpcio-tools 1.78.0, whose output runs on protobuf 6 and 7 alike (a newer one asks for a newer
protobuf), with: python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. proto/embodied/v1/*.proto
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCHEMAS = sorted(path.relative_to(ROOT / "proto") for path in (ROOT / "proto").rglob("*.proto"))


def descriptor_of(generated: Path) -> str:
    """Return the line that holds the schema; the others also tell the version of protoc."""
    (line,) = (line for line in generated.read_text().splitlines() if line.startswith("DESCRIPTOR = "))
    return line


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_generated_code_is_current(schema: Path, tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    assert protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={tmp_path}", str(ROOT / "proto" / schema)]) == 0
    generated = schema.with_name(f"{schema.stem}_pb2.py")
    assert descriptor_of(tmp_path / generated) == descriptor_of(ROOT / generated), (
        "generate it again, as this file says"
    )
