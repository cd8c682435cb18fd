"""What the recipes say: text that other programs take."""

import json
import math
import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9@/:=,.+_-]+")
AFTER_GRACE_S = 15
"""How long a worker may take after its grace until its results are recorded."""
USER = 10_001
"""The user that the worker has in a container: one that the machine does not know."""
_KEY = "/run/tradewind/key"


def stop_s(grace_s: float) -> int:
    """How long to wait for a worker that was told to leave."""
    return math.ceil(grace_s) + AFTER_GRACE_S


# -- systemd ------------------------------------------------------------------------------------------------------


def unit(program: Sequence[str], words: Sequence[str], key: str, folder: str, grace_s: float) -> str:
    """A unit for systemd. The key reaches the worker as a credential: only root must be able to read the file."""
    start = " ".join([*map(_unit_word, [*program, "worker", *words]), "--key", "%d/key"])
    return f"""\
[Unit]
Description=Tradewind worker
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={start}
WorkingDirectory={_unit_path(folder)}
LoadCredential=key:{_unit_path(key)}
DynamicUser=yes
KillMode=mixed
TimeoutStopSec={stop_s(grace_s)}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2

[Install]
WantedBy=multi-user.target
"""


def _unit_word(word: str) -> str:
    """A word of ExecStart, in which systemd would expand % and $."""
    text = _unit_path(word).replace("$", "$$")
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _unit_path(path: str) -> str:
    return path.replace("%", "%%")


# -- Kubernetes ---------------------------------------------------------------------------------------------------


def manifest(
    name: str, image: str, replicas: int, words: Sequence[str], slots: int | None, grace_s: float, secret: str | None
) -> str:
    """A Deployment, and its Secret if that is given."""
    # A container without a CPU limit has all cores of its node, so the number of slots is always said.
    args = ["worker", *words, *([] if slots else ["--slots", "1"]), "--key", _KEY]
    # Kubernetes would expand $(NAME), and make one $ of two.
    args = [each.replace("$", "$$") for each in args]
    first = _made_by_hand(name) if secret is None else _secret(name, secret)
    return f"""\
{first}apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app.kubernetes.io/name: {name}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {name}
    spec:
      # Longer than a worker takes to finish what runs.
      terminationGracePeriodSeconds: {stop_s(grace_s)}
      # Otherwise a Service called tradewind sets TRADEWIND_PORT.
      enableServiceLinks: false
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        runAsUser: {USER}
        runAsGroup: {USER}
        fsGroup: {USER}
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: worker
          image: {_quoted(image)}
          args: {_quoted(args)}
          resources:
            # A core for each slot, and no limit: a limit would only slow tasks down.
            requests:
              cpu: "{slots or 1}"
          securityContext:
            allowPrivilegeEscalation: false
            capabilities:
              drop: ["ALL"]
          volumeMounts:
            - name: key
              mountPath: /run/tradewind
              readOnly: true
      volumes:
        - name: key
          secret:
            secretName: {name}-key
            defaultMode: 0440
"""


def _made_by_hand(name: str) -> str:
    return f"# Before: kubectl create secret generic {name}-key --from-file=key=FILE.key_secret\n"


def _secret(name: str, content: str) -> str:
    lines = "".join(f"    {line}\n" for line in content.rstrip("\n").splitlines())
    return f"""\
# It has a secret key: apply it, and keep it nowhere.
apiVersion: v1
kind: Secret
metadata:
  name: {name}-key
stringData:
  key: |
{lines}---
"""


def _quoted(value: object) -> str:
    """The value as JSON, which YAML and Containerfiles take."""
    return json.dumps(value)


# -- containers -----------------------------------------------------------------------------------------------------


def containerfile(base: str, wheel: str, sources: Sequence[str], words: Sequence[str]) -> str:
    """A Containerfile. The worker is process 1, gets its signals, and takes its key from standard input."""
    copies = "".join(f"COPY {source} {'./' + source if source.endswith('/') else './'}\n" for source in sources)
    file = wheel.rpartition("/")[2]
    return f"""\
FROM {base}
COPY {wheel} /tmp/
RUN python3 -m pip install --no-cache-dir /tmp/{file}
WORKDIR /srv/farm
{copies}USER {USER}:{USER}
ENTRYPOINT ["tradewind"]
CMD {_quoted(["worker", *words, "--key", "-"])}
"""
