"""Cloud Run through Google's own Python client, over REST: services, revisions, jobs, executions, tasks.

Usage: run.py API_URL

The server runs programs of its machine. Exits 0 only if every step did what it should.
"""

import json
import sys

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import Aborted, AlreadyExists, BadRequest, Conflict, FailedPrecondition, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import field_mask_pb2

PARENT = "projects/py-run/locations/us-central1"
HELLO = "gcr.io/cloudrun/hello"
SUCCEEDED = run_v2.Condition.State.CONDITION_SUCCEEDED
FAILED = run_v2.Condition.State.CONDITION_FAILED
LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
REVISION = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION

arguments = {
    "credentials": AnonymousCredentials(),
    "client_options": ClientOptions(api_endpoint=sys.argv[1]),
    "transport": "rest",
}
services, revisions = run_v2.ServicesClient(**arguments), run_v2.RevisionsClient(**arguments)
jobs, executions = run_v2.JobsClient(**arguments), run_v2.ExecutionsClient(**arguments)
tasks = run_v2.TasksClient(**arguments)


def step(text):
    print(text, flush=True)


def expect(errors, call, *args, **keywords):
    try:
        call(*args, **keywords)
    except errors as found:
        step("  refused as it should be: %s" % found.message)
        return found
    raise AssertionError("%s was expected" % (errors,))


def mask(*paths):
    return field_mask_pb2.FieldMask(paths=paths)


def a_service():
    step("a service: made once, checked, changed by mask")
    name = PARENT + "/services/app"
    wanted = run_v2.Service(
        template=run_v2.RevisionTemplate(containers=[run_v2.Container(image=HELLO)]),
        labels={"team": "a"},
    )
    request = run_v2.CreateServiceRequest(
        parent=PARENT, service=wanted, service_id="app", validate_only=True
    )
    services.create_service(request=request).result(timeout=30)
    expect(NotFound, services.get_service, name=name)
    made = services.create_service(parent=PARENT, service=wanted, service_id="app").result(timeout=30)
    assert made.terminal_condition.state == SUCCEEDED, made
    assert made.observed_generation == made.generation == 1 and not made.reconciling
    first = made.latest_ready_revision
    expect((AlreadyExists, Conflict), services.create_service, parent=PARENT, service=wanted, service_id="app")

    changed = run_v2.Service(name=name, labels={"team": "b"}, description="not in the mask")
    update = run_v2.UpdateServiceRequest(service=changed, update_mask=mask("labels"))
    changed = services.update_service(request=update).result(timeout=30)
    assert dict(changed.labels) == {"team": "b"} and changed.description == ""
    assert changed.latest_created_revision == first and changed.generation == 2

    stale = run_v2.Service(name=name, labels={"team": "c"}, etag=made.etag)
    expect(
        (Aborted, Conflict),
        services.update_service,
        request=run_v2.UpdateServiceRequest(service=stale, update_mask=mask("labels")),
    )
    changed.template.containers[0].env = [run_v2.EnvVar(name="A", value="1")]
    changed.template.revision = "app-second"
    changed.traffic = [
        run_v2.TrafficTarget(type_=REVISION, revision=first.rsplit("/", 1)[1], percent=90),
        run_v2.TrafficTarget(type_=LATEST, percent=10, tag="next"),
    ]
    split = services.update_service(service=changed).result(timeout=30)
    assert [(t.percent, t.tag) for t in split.traffic_statuses] == [(90, ""), (10, "next")], split
    assert split.traffic_statuses[1].uri.startswith("https://next---app-")
    found = [r.name.rsplit("/", 1)[1] for r in revisions.list_revisions(parent=name)]
    assert found[0] == "app-second" and len(found) == 2, found
    expect((FailedPrecondition, BadRequest), revisions.delete_revision, name=first)
    bad = run_v2.Service(template=run_v2.RevisionTemplate(timeout="5000s", containers=[run_v2.Container(image=HELLO)]))
    expect(BadRequest, services.create_service, parent=PARENT, service=bad, service_id="bad")
    services.delete_service(name=name).result(timeout=30)
    expect(NotFound, services.get_service, name=name)


def script(text):
    return run_v2.Container(name="main", image="process:/bin/sh", args=["-c", text])


def make(job, text, count=1, retries=0):
    template = run_v2.ExecutionTemplate(
        task_count=count,
        template=run_v2.TaskTemplate(max_retries=retries, containers=[script(text)]),
    )
    made = jobs.create_job(parent=PARENT, job=run_v2.Job(template=template), job_id=job)
    return made.result(timeout=30)


def a_job():
    step("a job: made, changed, run with other variables this once")
    job = make("good", "echo task $CLOUD_RUN_TASK_INDEX says $WORD; test -n \"$WORD\"", count=3)
    assert job.terminal_condition.state == SUCCEEDED and job.execution_count == 0
    job.labels["team"] = "a"
    job = jobs.update_job(job=job).result(timeout=30)
    assert job.labels["team"] == "a"
    override = run_v2.RunJobRequest.Overrides(
        container_overrides=[
            run_v2.RunJobRequest.Overrides.ContainerOverride(
                env=[run_v2.EnvVar(name="WORD", value="hello")]
            )
        ],
        task_count=2,
    )
    run = jobs.run_job(request=run_v2.RunJobRequest(name=job.name, overrides=override))
    assert run.metadata.name.startswith(job.name + "/executions/good-"), run.metadata.name
    done = run.result(timeout=60)
    assert (done.succeeded_count, done.failed_count, done.task_count) == (2, 0, 2), done
    assert done.completion_time and not done.reconciling

    found = sorted(tasks.list_tasks(parent=done.name), key=lambda task: task.index)
    assert [task.index for task in found] == [0, 1]
    assert all(task.last_attempt_result.exit_code == 0 for task in found)
    assert tasks.get_task(name=found[1].name).index == 1
    job = jobs.get_job(name=job.name)
    assert job.execution_count == 1 and job.latest_created_execution.name.endswith(done.name.rsplit("/")[-1])

    step("a job that fails: its tasks say why")
    failing = make("failing", "exit 3", retries=1)
    run = jobs.run_job(name=failing.name)
    name = run.metadata.name
    try:
        result = run.result(timeout=60)
        assert result.failed_count == 1, result
    except Exception as error:  # The operation of a failed execution fails too.
        step("  the operation says: %s" % error)
    failed = executions.get_execution(name=name)
    completed = next(c for c in failed.conditions if c.type_ == "Completed")
    assert completed.state == FAILED and failed.failed_count == 1, failed
    task = next(iter(tasks.list_tasks(parent=name)))
    assert task.last_attempt_result.exit_code == 3 and task.retried == 1, task

    step("an execution is cancelled, executions are listed and deleted")
    slow = make("slow", "sleep 60")
    run = jobs.run_job(name=slow.name)
    cancelled = executions.cancel_execution(name=run.metadata.name).result(timeout=30)
    completed = next(c for c in cancelled.conditions if c.type_ == "Completed")
    assert completed.state == FAILED and cancelled.cancelled_count == 1, cancelled
    assert len(list(executions.list_executions(parent=slow.name))) == 1
    assert len(list(executions.list_executions(parent=PARENT + "/jobs/-"))) == 3
    executions.delete_execution(name=run.metadata.name).result(timeout=30)
    expect(NotFound, executions.get_execution, name=run.metadata.name)

    step("who may run a job")
    binding = policy_pb2.Binding(role="roles/run.invoker", members=["user:a@example.com"])
    policy = policy_pb2.Policy(bindings=[binding])
    jobs.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=job.name, policy=policy))
    read = jobs.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=job.name))
    assert list(read.bindings) == [binding], read
    for found in list(jobs.list_jobs(parent=PARENT)):
        jobs.delete_job(name=found.name).result(timeout=30)
    assert not list(jobs.list_jobs(parent=PARENT))


a_service()
a_job()
print(json.dumps({"passed": True}))
