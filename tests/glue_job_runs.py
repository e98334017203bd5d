"""Job runs of Glue that really run: the local AWS's Glue accepts a Spark job and does nothing.

Real: the job's script, its arguments, Spark, S3. Stand-ins: spark-submit on this machine for Glue's workers, with the
project's folder in place of etl.zip; the state of that process for the run's state.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from spark_java import java_home, s3_jars

from local.stack import Stack

ROOT = Path(__file__).parent.parent


def spark_submit(stack: Stack, arguments: list[str], log: Path) -> subprocess.Popen:
    """The job's script as Glue starts it, with the embedded S3 in place of AWS's; its output goes to `log`."""
    environment = (
        os.environ
        | stack.environment()
        | {"JAVA_HOME": str(java_home()), "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    )
    s3a = "spark.hadoop.fs.s3a"
    options = {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        f"{s3a}.endpoint": stack.environment()["AWS_ENDPOINT_URL"],
        f"{s3a}.path.style.access": "true",
        f"{s3a}.connection.ssl.enabled": "false",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
    }
    programs = Path(sys.executable).parent
    command = [programs / "spark-submit", "--master", "local[2]", "--driver-memory", "1g"]
    # A JVM that lives for seconds: compiling well costs more than it saves.
    command += ["--driver-java-options", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"]
    command += ["--jars", ",".join(map(str, s3_jars()))]
    command += [part for name, value in options.items() for part in ("--conf", f"{name}={value}")]
    with log.open("w") as output:
        return subprocess.Popen(
            [*command, ROOT / "etl/glue_job.py", "--JOB_NAME", "x", *arguments],
            env=environment | {"PATH": f"{programs}{os.pathsep}{environment['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class _Runs(ThreadingHTTPServer):
    """The local AWS, except for what becomes of job runs."""

    daemon_threads = True

    def __init__(self, stack: Stack, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stack, self.folder, self.began = stack, folder, time.monotonic()
        self.upstream = urlsplit(stack.environment()["AWS_ENDPOINT_URL"])
        self.processes: dict[str, subprocess.Popen] = {}

    def answer(self, operation: str, body: bytes, content: bytes) -> bytes:
        """What the client gets: a started run is started here, too, and has the state of its process."""
        if operation == "AWSGlue.StartJobRun":
            asked, run = json.loads(body), json.loads(content)["JobRunId"]
            job = self.ask("AWSGlue.GetJob", {"JobName": asked["JobName"]})["Job"]
            given = job["DefaultArguments"] | asked.get("Arguments", {})
            arguments = [word for name, value in given.items() for word in (name, value)]
            self.processes[run] = spark_submit(self.stack, arguments, self.log(run))
        if operation == "AWSGlue.GetJobRun":
            found = json.loads(content)
            run = json.loads(body)["RunId"]
            code = self.processes[run].poll()
            found["JobRun"]["JobRunState"] = "RUNNING" if code is None else "FAILED" if code else "SUCCEEDED"
            found["JobRun"]["ExecutionTime"] = int(time.monotonic() - self.began)
            if code:
                found["JobRun"]["ErrorMessage"] = self.log(run).read_text()[-2000:]
            return json.dumps(found).encode()
        return content

    def log(self, run: str) -> Path:
        return self.folder / f"{run}.log"

    def ask(self, operation: str, parameters: dict) -> dict:
        headers = {"X-Amz-Target": operation, "Content-Type": "application/x-amz-json-1.1"}
        _, _, content = self.forward("POST", "/", json.dumps(parameters).encode(), headers)
        return json.loads(content)

    def forward(self, method: str, path: str, body: bytes, headers: dict) -> tuple[int, dict, bytes]:
        upstream = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=60)
        try:
            # The local AWS answers under its own address only.
            own = {name: value for name, value in headers.items() if name.lower() != "host"}
            upstream.request(method, path, body or None, own)
            answer = upstream.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            upstream.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Runs

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, content = self.server.forward(self.command, self.path, body, dict(self.headers))
        if status == 200 and "X-Amz-Target" in self.headers:
            content = self.server.answer(self.headers["X-Amz-Target"], body, content)
            headers["Content-Length"] = str(len(content))
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    # The ETL's other calls are S3's.
    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST  # noqa: N815 - names that the library calls

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def glue_that_runs(stack: Stack, folder: Path) -> Iterator[str]:
    """The address of Glue, as AWS_ENDPOINT_URL_GLUE or AWS_ENDPOINT_URL, whose job runs really run."""
    server = _Runs(stack, folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        for process in server.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        server.shutdown()
        server.server_close()
        thread.join()
