# Tries to connect a number of times and prints for each what came of it and
# after how many milliseconds; then stays until standard input ends. Arguments:
# address, port, how often, and from which address if that matters.
import errno
import json
import socket
import sys
import time

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tries = []
for _ in range(count):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(10)
        if len(sys.argv) > 4:
            s.bind((sys.argv[4], 0))
        began = time.perf_counter()
        try:
            s.connect((address, port))
            came = "connected"
        except OSError as e:
            came = errno.errorcode.get(e.errno, str(e))
        tries.append({"came": came, "ms": (time.perf_counter() - began) * 1000})
print(json.dumps(tries), flush=True)
sys.stdin.read()
