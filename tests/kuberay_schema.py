"""The fields of a RayJob (ray.io/v1) with their types, strictly: nothing that KubeRay would not know.

Field names and types from KubeRay's "CRD API reference" (docs.ray.io, releases 1.6.2 and 1.7.1; Apache-2.0). Written by hand for
what a RayJob with a cluster of its own can say; where the reference has a type of Kubernetes' own, such as a pod template, it is an
object here, and judged by the schemas of kubernetes-validate.
"""

from typing import Any

TEXT, TRUTH, WHOLE, NUMBER = ({"type": name} for name in ("string", "boolean", "integer", "number"))
OF_KUBERNETES = {"type": "object"}
TEXTS_BY_NAME = {"type": "object", "additionalProperties": TEXT}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def fields(*required: str, **types: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": types, "required": list(required), "additionalProperties": False}


AUTH_OPTIONS = fields(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=TRUTH)

HEAD_GROUP = fields(
    "template",
    template=OF_KUBERNETES,
    rayStartParams=TEXTS_BY_NAME,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    headService=OF_KUBERNETES,
    enableIngress=TRUTH,
)

WORKER_GROUP = fields(
    "groupName",
    "template",
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    numOfHosts=WHOLE,
    idleTimeoutSeconds=WHOLE,
    rayStartParams=TEXTS_BY_NAME,
    template=OF_KUBERNETES,
)

RAY_CLUSTER_SPEC = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=AUTH_OPTIONS,
    enableInTreeAutoscaling=TRUTH,
    autoscalerOptions=OF_KUBERNETES,
    headServiceAnnotations=TEXTS_BY_NAME,
    suspend=TRUTH,
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
)

RAY_JOB = fields(
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayJob"),
    metadata=OF_KUBERNETES,
    spec=fields(
        "entrypoint",
        "rayClusterSpec",
        entrypoint=TEXT,
        runtimeEnvYAML=TEXT,
        metadata=TEXTS_BY_NAME,
        jobId=TEXT,
        submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        submitterPodTemplate=OF_KUBERNETES,
        submitterConfig=fields(backoffLimit=WHOLE),
        entrypointNumCpus=NUMBER,
        entrypointNumGpus=NUMBER,
        entrypointResources=TEXT,
        activeDeadlineSeconds=WHOLE,
        backoffLimit=WHOLE,
        shutdownAfterJobFinishes=TRUTH,
        ttlSecondsAfterFinished=WHOLE,
        suspend=TRUTH,
        rayClusterSpec=RAY_CLUSTER_SPEC,
    ),
)
