#!/usr/bin/env python3
"""The secret of an attempt, on a real Slurm in a box: it is told nowhere, the next attempt
has another, and whatever listens refuses who comes with the old one."""
import os
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import wait_for  # noqa: E402
from pod.box import processes  # noqa: E402
from pod.project import PodProject, boxed  # noqa: E402

STEPS = 400


def told(text):
    return struct.pack("<I", len(text)) + text.encode()


def frame(kind, payload):
    """As core/client/frame.h has them."""
    return struct.pack("<IB", 1 + len(payload), kind) + payload


def hello(token):
    return frame(1, told(token) + struct.pack("<II", 0, 2) + told("127.0.0.1") + struct.pack("<I", 1))


def join(token):
    return frame(32, told(token) + struct.pack("<I", 1) + told("dgx-002") + struct.pack("<I", 0) + told("127.0.0.1")
                 + struct.pack("<I", 1))


def of_pioche(box):
    """pid -> environment of the head, the agents and the ranks; Slurm's own, which carry the
    environment to them, are not among them."""
    inside, found = set(box.pids()), {}
    for pid, (_, environ) in processes().items():
        if pid not in inside:
            continue
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            words = f.read().split(b"\0")
        is_told = any(e.startswith(b"PIOCHE_TOKEN=") for e in environ)
        if words[1:2] == [b"agent"] or is_told and not os.path.basename(words[0]).startswith((b"srun", b"slurm")):
            found[pid] = environ
    return found


def tokens(box):
    return {e.split(b"=", 1)[1].decode() for environ in of_pioche(box).values() for e in environ
            if e.startswith(b"PIOCHE_TOKEN=")}


def inodes(pids):
    found = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if link.startswith("socket:["):
                found.add(link[8:-1])
    return found


def doors(box):
    """Addresses at which anything of pioche listens: (host, port), or the name of a unix socket."""
    ours, found = inodes(of_pioche(box)), []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with open(f"/proc/net/{table}", encoding="ascii") as f:
            for line in f.readlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[9] in ours:
                    host, port = words[1].split(":")
                    numbers = [struct.pack("=I", int(host[i:i + 8], 16)) for i in range(0, len(host), 8)]
                    found.append((socket.inet_ntop(family, b"".join(numbers)), int(port, 16)))
    with open("/proc/net/unix", encoding="utf-8") as f:
        for line in f.readlines()[1:]:
            words = line.rstrip("\n").split(None, 7)
            if int(words[3], 16) & 0x10000 and words[6] in ours:
                found.append("\0" + words[7][1:] if words[7].startswith("@") else words[7])
    return found


def is_refused(door, bytes_told):
    """Hung up on, whatever was said before."""
    with (socket.create_connection(door) if isinstance(door, tuple) else socket.socket(socket.AF_UNIX)) as s:
        if not isinstance(door, tuple):
            s.connect(door)
        s.settimeout(20)
        s.sendall(bytes_told)
        try:
            while s.recv(4096):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True


def command_lines():
    text = b""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as f:
                text += f.read()
        except OSError:
            pass
    return text


def check_told_nowhere(token, folders):
    assert token.encode() not in command_lines()
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                if os.path.isfile(path):
                    with open(path, "rb") as f:
                        assert token.encode() not in f.read(), path


def test_a_stale_token_opens_nothing_and_none_is_told():
    with boxed(2) as box, PodProject(box) as p:
        p.recipe("nodes = 2, ranks_per_node = 1", attempts="2, backoff_s = 0.5",
                 space=f"steps = {STEPS}, pause_ms = 50, metrics = 1")
        with p.running():
            stale, = tokens(box)
            rank = min(pid for pid, environ in of_pioche(box).items() if b"RANK=1" in environ)
            os.kill(rank, signal.SIGKILL)
            wait_for(lambda: [a for a in p.attempts() if a["number"] == 2 and a["state"] == "running"], 60,
                     "the second attempt")
            wait_for(lambda: p.poll("SELECT 1 FROM chunk WHERE attempt = 2"), 60, "its points")
            token, = tokens(box)
            assert len(token) == 32 and token != stale
            found = doors(box)
            # The head's, and the unix socket of each agent.
            assert sum(isinstance(door, tuple) for door in found) >= 1 and len(found) >= 3, found
            for door in found:
                for words in (hello(stale), join(stale), join("")):
                    assert is_refused(door, words), door
            check_told_nowhere(token, (p.store, box.dir))
        assert [a["result"] for a in p.attempts()] == ["signal", "ok"], p.attempts()
        p.check_points(2, 1, STEPS)
        for secret in (stale, token):
            check_told_nowhere(secret, (p.store, box.dir))
        p.check_nothing_left()


if __name__ == "__main__":
    harness.main()
