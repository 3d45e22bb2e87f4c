"""The protobuf messages of the gRPC baselines, described here at run time: no compiler, no generated code.

message Tensor  { int32 rank = 1; int64 step = 2; int32 index = 3; string name = 4; string dtype = 5;
                  repeated int64 shape = 6; bytes content = 7; }
message Request { int32 rank = 1; int64 step = 2; int32 index = 3; }
"""

from __future__ import annotations

from functools import cache
from typing import Any

PACKAGE = "hotbench.placement"


@cache
def message_classes() -> tuple[Any, Any]:
    """Return the classes Tensor and Request; protobuf's own C implementation serializes them."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    Field = descriptor_pb2.FieldDescriptorProto
    request = (("rank", Field.TYPE_INT32), ("step", Field.TYPE_INT64), ("index", Field.TYPE_INT32))
    tensor = (
        *request,
        ("name", Field.TYPE_STRING),
        ("dtype", Field.TYPE_STRING),
        ("shape", Field.TYPE_INT64),
        ("content", Field.TYPE_BYTES),
    )
    file = descriptor_pb2.FileDescriptorProto(name="hotbench/placement.proto", package=PACKAGE, syntax="proto3")
    for name, fields in (("Tensor", tensor), ("Request", request)):
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            label = Field.LABEL_REPEATED if field == "shape" else Field.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in ("Tensor", "Request"))
    Tensor, Request = (message_factory.GetMessageClass(descriptor) for descriptor in found)
    return Tensor, Request
