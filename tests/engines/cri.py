"""As much of Kubernetes' Container Runtime Interface (CRI), version 1, as the tests call.

The messages are described here and not generated: the names and numbers of the fields are the
interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "runtime.v1"
# Field, number, type: a scalar's name or a message's; [] for several of them.
MESSAGES = {
    "VersionRequest": "version 1 string",
    "VersionResponse": "runtime_name 2 string, runtime_api_version 4 string",
    "NamespaceOption": "network 1 int32, pid 2 int32, ipc 3 int32",
    "LinuxSandboxSecurityContext": "namespace_options 1 NamespaceOption",
    "LinuxPodSandboxConfig": "cgroup_parent 1 string,"
    "security_context 2 LinuxSandboxSecurityContext",
    "PodSandboxMetadata": "name 1 string, uid 2 string, namespace 3 string, attempt 4 uint32",
    "PodSandboxConfig": "metadata 1 PodSandboxMetadata, hostname 2 string, log_directory 3 string,"
    "linux 8 LinuxPodSandboxConfig",
    "RunPodSandboxRequest": "config 1 PodSandboxConfig, runtime_handler 2 string",
    "RunPodSandboxResponse": "pod_sandbox_id 1 string",
    "StopPodSandboxRequest": "pod_sandbox_id 1 string",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id 1 string",
    "RemovePodSandboxResponse": "",
    "PodSandboxStatusRequest": "pod_sandbox_id 1 string",
    "PodSandboxStatus": "id 1 string, state 3 int32, runtime_handler 9 string",
    "PodSandboxStatusResponse": "status 1 PodSandboxStatus",
    "ImageSpec": "image 1 string",
    "KeyValue": "key 1 string, value 2 string",
    "Int64Value": "value 1 int64",
    "LinuxContainerResources": "cpu_period 1 int64, cpu_quota 2 int64, cpu_shares 3 int64,"
    "memory_limit_in_bytes 4 int64",
    "SecurityProfile": "profile_type 1 int32, localhost_ref 2 string",
    "LinuxContainerSecurityContext": "namespace_options 3 NamespaceOption,"
    "run_as_user 5 Int64Value, readonly_rootfs 7 bool, no_new_privs 11 bool,"
    "seccomp 15 SecurityProfile",
    "LinuxContainerConfig": "resources 1 LinuxContainerResources,"
    "security_context 2 LinuxContainerSecurityContext",
    "ContainerMetadata": "name 1 string, attempt 2 uint32",
    "ContainerConfig": "metadata 1 ContainerMetadata, image 2 ImageSpec, command 3 string[],"
    "args 4 string[], envs 6 KeyValue[], log_path 11 string, linux 15 LinuxContainerConfig",
    "CreateContainerRequest": "pod_sandbox_id 1 string, config 2 ContainerConfig,"
    "sandbox_config 3 PodSandboxConfig",
    "CreateContainerResponse": "container_id 1 string",
    "StartContainerRequest": "container_id 1 string",
    "StartContainerResponse": "",
    "StopContainerRequest": "container_id 1 string, timeout 2 int64",
    "StopContainerResponse": "",
    "RemoveContainerRequest": "container_id 1 string",
    "RemoveContainerResponse": "",
    "ContainerStatusRequest": "container_id 1 string",
    "ContainerStatus": "id 1 string, state 3 int32, exit_code 7 int32, reason 10 string",
    "ContainerStatusResponse": "status 1 ContainerStatus",
    "UpdateContainerResourcesRequest": "container_id 1 string, linux 2 LinuxContainerResources",
    "UpdateContainerResourcesResponse": "",
    "ExecSyncRequest": "container_id 1 string, cmd 2 string[], timeout 3 int64",
    "ExecSyncResponse": "stdout 1 bytes, stderr 2 bytes, exit_code 3 int32",
}

NODE = 2
CONTAINER = 1
CONTAINER_RUNNING, CONTAINER_EXITED = 1, 2


def _described() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(",")):
            label, number, kind = field.split()
            single = kind.removesuffix("[]")
            entry = message.field.add(name=label, number=int(number))
            entry.label = kinds.LABEL_OPTIONAL if single == kind else kinds.LABEL_REPEATED
            if single in MESSAGES:
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{single}"
            else:
                entry.type = kinds.Type.Value(f"TYPE_{single.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = ((name, pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES)
    return {name: message_factory.GetMessageClass(message) for name, message in found}


CLASSES = _described()


class RuntimeService:
    """The service of an engine that listens on a socket; its calls take and give plain data."""

    def __init__(self, socket: Path, patience: float) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self._patience = patience

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, **request: Any) -> Any:
        """Call a method; ``grpc.RpcError`` is raised if it fails."""
        invoke = self._channel.unary_unary(
            f"/{PACKAGE}.RuntimeService/{method}",
            request_serializer=CLASSES[f"{method}Request"].SerializeToString,
            response_deserializer=CLASSES[f"{method}Response"].FromString,
        )
        message = json_format.ParseDict(request, CLASSES[f"{method}Request"]())
        return invoke(message, timeout=self._patience)
