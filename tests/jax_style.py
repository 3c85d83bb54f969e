"""What jax.distributed.initialize does, without JAX: process 0 serves at the
coordinator's address, everybody connects to it, says its number, and goes on
when all are there. Prints the numbers that are there, as process 0 heard them."""
import os
import socket
import threading
import time

DEADLINE = time.monotonic() + 100
HOST, PORT = os.environ["JAX_COORDINATOR_ADDRESS"].rsplit(":", 1)
COUNT, MINE = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])


def serve(listener):
    heard = {}
    while len(heard) < COUNT:
        connection, _ = listener.accept()
        number = int(connection.makefile().readline())
        assert number not in heard, f"two processes say they are number {number}"
        heard[number] = connection
    everybody = " ".join(map(str, sorted(heard)))
    for connection in heard.values():
        connection.sendall(everybody.encode() + b"\n")
        connection.close()


def connect():
    while True:
        try:
            return socket.create_connection((HOST, int(PORT)), timeout=100)
        except ConnectionRefusedError:
            assert time.monotonic() < DEADLINE, f"nobody serves at {HOST}:{PORT}"
            time.sleep(0.05)


if MINE == 0:
    listener = socket.create_server((HOST, int(PORT)), backlog=COUNT)
    threading.Thread(target=serve, args=[listener]).start()
with connect() as connection:
    connection.sendall(f"{MINE}\n".encode())
    print(MINE, "of", COUNT, "sees", connection.makefile().readline().strip())
print("SLURM_PROCID", os.environ.get("SLURM_PROCID"))
