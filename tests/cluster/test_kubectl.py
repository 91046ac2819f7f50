"""kubectl, unchanged and without special flags, against both planes."""

import json
import subprocess

import pytest
import yaml

from tests.cluster.conftest import Kubectl, manifest, service
from tests.cluster.rest import KubernetesClient, condition
from tests.cluster.test_rollout import by_revision, complete


@pytest.fixture
def web(api: KubernetesClient, kubectl: Kubectl) -> Kubectl:
    """kubectl, in a namespace where Deployment and Service `web` were applied and are up."""
    text = yaml.safe_dump_all([manifest(replicas=2), service()])
    output = kubectl.run("apply", "-f", "-", text=text)
    assert output.splitlines() == ["deployment.apps/web created", "service/web created"]
    api.until("deployments", complete)
    return kubectl


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_prints_the_usual_columns(web: Kubectl) -> None:
    head, row = rows(web.run("get", "deployments"))
    assert head == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row[:4] == ["web", "2/2", "2", "2"]
    head, row = rows(web.run("get", "rs"))
    assert head == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    assert row[1:4] == ["2", "2", "2"]
    head, *pods = rows(web.run("get", "pods"))
    assert head == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [pod[1:4] for pod in pods] == [["1/1", "Running", "0"]] * 2
    head, row = rows(web.run("get", "svc"))
    assert head == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert (row[0], row[1], row[3], row[4]) == ("web", "ClusterIP", "<none>", "80/TCP")
    head, row = rows(web.run("get", "endpointslices"))
    assert head == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert (row[1], row[2], row[3].count(",")) == ("IPv4", "8080", 1)
    head, *nodes = rows(web.run("get", "nodes"))
    assert head == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert ["node-a", "Ready", "<none>"] in [node[:3] for node in nodes]
    assert rows(web.run("get", "events"))[0] == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]


def test_get_wide_all_and_other_outputs(web: Kubectl) -> None:
    head = rows(web.run("get", "pods", "-o", "wide"))[0]
    assert " ".join(head) == "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    head, row = rows(web.run("get", "deploy", "-o", "wide"))
    assert head[5:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert row[5:] == ["web", "shop/web:1", "app=web"]
    everything = web.run("get", "all")
    for name in ("pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"):
        assert name in everything
    assert web.run("get", "pods", "-o", "name").count("pod/web-") == 2
    images = web.run("get", "pods", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    assert images == "shop/web:1 shop/web:1"
    names = rows(web.run("get", "pods", "--sort-by=.metadata.name", "--no-headers"))
    assert names == sorted(names)
    assert web.run("get", "pods", "-l", "app=other").strip().startswith("No resources found")
    labels = rows(web.run("get", "pods", "--show-labels"))
    assert labels[0][-1] == "LABELS"


def test_describe_tells_the_story(web: Kubectl, api: KubernetesClient) -> None:
    text = web.run("describe", "deployment", "web")
    newest = by_revision(api)[-1]["metadata"]["name"]
    for part in (
        "Replicas:               2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
        "RollingUpdateStrategy:  25% max unavailable, 25% max surge",
        "Progressing    True    NewReplicaSetAvailable",
        "Available      True    MinimumReplicasAvailable",
        f"NewReplicaSet:   {newest} (2/2 replicas created)",
        f"Scaled up replica set {newest} from 0 to 2",
    ):
        assert part in text
    pod = api.items("pods")[0]["metadata"]["name"]
    text = web.run("describe", "pod", pod)
    for part in (
        "Controlled By:  ReplicaSet/",
        "BestEffort",
        "node.kubernetes.io/not-ready:NoExecute",
    ):
        assert part in text
    text = web.run("describe", "service", "web")
    assert "Endpoints:" in text
    assert text.count(":8080") == 2
    assert f"Created pod: {pod}" in web.run("describe", "rs", newest)
    assert "Non-terminated Pods:" in web.run("describe", "node", "node-a")


def test_get_watch_prints_changes_as_rows(web: Kubectl, api: KubernetesClient) -> None:
    process = web.start("get", "deployment", "web", "-w")
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().split()[:2] == ["NAME", "READY"]
        assert process.stdout.readline().split()[:2] == ["web", "2/2"]
        api.patch("deployments/web/scale", {"spec": {"replicas": 3}})
        seen = []
        for line in process.stdout:
            seen.append(line.split()[1])
            if seen[-1] == "3/3":
                break
        process.terminate()
        process.wait(20)
    assert "2/3" in seen
    assert "READY" not in seen, "the head is printed once"


def test_apply_changes_and_removes_by_three_ways(web: Kubectl, api: KubernetesClient) -> None:
    body = manifest(replicas=2)
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert web.run("apply", "-f", "-", text=json.dumps(body)).strip() == "deployment.apps/web configured"
    # Somebody else's field stays, a field of ours that is no longer in the file goes.
    api.patch("deployments/web", {"metadata": {"labels": {"theirs": "yes"}}})
    web.run("apply", "-f", "-", text=json.dumps(manifest(replicas=2)))
    after = api.get("deployments/web")
    assert "env" not in after["spec"]["template"]["spec"]["containers"][0]
    assert after["metadata"]["labels"] == {"app": "web", "theirs": "yes"}
    again = web.run("apply", "-f", "-", text=json.dumps(manifest(replicas=2)))
    assert again.strip() == "deployment.apps/web unchanged"


def test_apply_refuses_what_is_invalid(kubectl: Kubectl) -> None:
    body = manifest()
    body["spec"]["selector"]["matchLabels"]["app"] = "other"
    output = kubectl.run("apply", "-f", "-", text=json.dumps(body), code=1)
    assert 'The Deployment "web" is invalid' in output
    assert "`selector` does not match template `labels`" in output


def test_set_image_rollout_status_history_and_undo(web: Kubectl, api: KubernetesClient) -> None:
    assert web.run("set", "image", "deployment/web", "web=shop/web:2").strip() == "deployment.apps/web image updated"
    status = web.run("rollout", "status", "deployment/web", "--timeout=40s")
    assert status.splitlines()[-1] == 'deployment "web" successfully rolled out'
    history = rows(web.run("rollout", "history", "deployment/web"))
    assert [row[0] for row in history if row and row[0].isdecimal()] == ["1", "2"]
    assert "shop/web:1" in web.run("rollout", "history", "deployment/web", "--revision=1")
    assert web.run("rollout", "undo", "deployment/web").strip() == "deployment.apps/web rolled back"
    web.run("rollout", "status", "deployment/web", "--timeout=40s")
    api.until("deployments", complete)
    assert by_revision(api)[-1]["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/web:1"
    history = rows(web.run("rollout", "history", "deployment/web"))
    assert [row[0] for row in history if row and row[0].isdecimal()] == ["2", "3"]
    web.run("rollout", "undo", "deployment/web", "--to-revision=2")
    web.run("rollout", "status", "deployment/web", "--timeout=40s")
    assert by_revision(api)[-1]["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/web:2"


def test_rollout_restart_pause_and_resume(web: Kubectl, api: KubernetesClient) -> None:
    assert web.run("rollout", "restart", "deployment/web").strip() == "deployment.apps/web restarted"
    web.run("rollout", "status", "deployment/web", "--timeout=40s")
    assert len(by_revision(api)) == 2
    assert web.run("rollout", "pause", "deployment/web").strip() == "deployment.apps/web paused"
    assert "cannot rollback a paused deployment" in web.run("rollout", "undo", "deployment/web", code=1)
    assert web.run("rollout", "resume", "deployment/web").strip() == "deployment.apps/web resumed"
    web.run("rollout", "undo", "deployment/web")
    web.run("rollout", "status", "deployment/web", "--timeout=40s")


def test_rollout_status_fails_when_the_deadline_is_exceeded(kubectl: Kubectl) -> None:
    body = manifest(replicas=1, pod={"test/ready-after": "never"}, progressDeadlineSeconds=2)
    kubectl.run("create", "-f", "-", text=json.dumps(body))
    output = kubectl.run("rollout", "status", "deployment/web", "--timeout=40s", code=1)
    assert 'deployment "web" exceeded its progress deadline' in output


def test_what_i_may_do_and_a_list_in_pages(web: Kubectl, api: KubernetesClient) -> None:
    assert web.run("auth", "can-i", "list", "pods").strip() == "yes"
    names = [item["metadata"]["name"] for item in api.items("pods")]
    assert [row[0] for row in rows(web.run("get", "pods", "--no-headers", "--chunk-size=1"))] == sorted(names)
    assert len(names) > 1


def test_scale_and_wait(web: Kubectl, api: KubernetesClient) -> None:
    assert web.run("scale", "deployment/web", "--replicas=3").strip() == "deployment.apps/web scaled"
    web.run("wait", "deployment/web", "--for=jsonpath={.status.availableReplicas}=3", "--timeout=40s")
    refused = web.run("scale", "deployment/web", "--current-replicas=7", "--replicas=1", code=1)
    assert "Expected replicas to be 7, was 3" in refused
    assert condition(api.get("deployments/web"), "Available")["status"] == "True"


def test_label_annotate_edit_by_patch_and_diff(web: Kubectl, api: KubernetesClient) -> None:
    web.run("label", "deployment", "web", "tier=front")
    web.run("annotate", "deployment", "web", "note=kept")
    web.run("patch", "deployment", "web", "-p", '{"spec":{"minReadySeconds":1}}')
    after = api.get("deployments/web")
    assert after["metadata"]["labels"]["tier"] == "front"
    assert after["metadata"]["annotations"]["note"] == "kept"
    assert after["spec"]["minReadySeconds"] == 1
    assert (
        web.run("apply", "--dry-run=server", "-f", "-", text=json.dumps(service())).strip()
        == "service/web unchanged (server dry run)"
    )
    web.run("wait", "--for=condition=Available", "deployment/web", "--timeout=40s")


def test_delete_waits_until_everything_is_gone(web: Kubectl, api: KubernetesClient) -> None:
    output = web.run("delete", "deployment/web", "--cascade=foreground", "--timeout=40s")
    assert output.splitlines()[0].startswith('deployment.apps "web" deleted')
    assert api.items("pods") == []
    pods = web.run("delete", "service", "--all")
    assert 'service "web" deleted' in pods
    assert "NotFound" in web.run("get", "deployment", "web", code=1)


def test_delete_a_pod_gracefully_and_by_force(web: Kubectl, api: KubernetesClient) -> None:
    first, second = (pod["metadata"]["name"] for pod in api.items("pods"))
    web.run("delete", "pod", first, "--timeout=40s")
    web.run("delete", "pod", second, "--grace-period=0", "--force")
    names = {pod["metadata"]["name"] for pod in api.items("pods")}
    assert not names & {first, second}


def test_rollout_status_follows_a_rollout_as_it_happens(web: Kubectl) -> None:
    process = web.start("rollout", "status", "deployment/web", "--revision=0", "--timeout=40s")
    assert process.wait(40) == 0
    assert process.stdout is not None
    process.stdout.close()
    web.run("set", "image", "deployment/web", "web=shop/web:2")
    done = subprocess.run(
        web.command("rollout", "status", "deployment/web", "--timeout=40s"),
        check=True, capture_output=True, text=True, env=web.environment, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert any(line.startswith('Waiting for deployment "web" rollout to finish:') for line in lines[:-1])
