"""An HTTP server that does what it is asked to, however bad that is."""
import http.server
import json
import os
import signal
import sys
import time

def environment(handler):
    handler.answer(json.dumps(dict(os.environ)))

def headers(handler):
    handler.answer(json.dumps({name.lower(): value for name, value in handler.headers.items()}))

def process(handler):
    stdin = os.read(0, 1)
    open_files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            open_files[name] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass
    handler.answer(json.dumps({"uid": os.getuid(), "pid": os.getpid(), "stdin": len(stdin), "cwd": os.getcwd(),
                               "files": open_files, "host": os.uname().nodename}))

def memory(handler):
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))

def bomb(handler):
    made = 0
    try:
        while made < 100000:
            if os.fork() == 0:
                time.sleep(3600)
                os._exit(0)
            made += 1
    except OSError:
        pass
    handler.answer(str(made))

def leave(handler):
    os._exit(3)

def leave_halfway(handler):
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.wfile.flush()
    os._exit(4)

def slow(handler):
    time.sleep(float(handler.argument))
    handler.answer("slept")

def huge(handler):
    handler.send_response(200)
    handler.send_header("content-length", str(int(handler.argument) << 20))
    handler.end_headers()
    block = b"x" * (1 << 20)
    for _ in range(int(handler.argument)):
        handler.wfile.write(block)

def streamed(handler):
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    block = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    for _ in range(int(handler.argument)):
        handler.wfile.write(block)
    handler.wfile.write(b"0\r\n\r\n")

def cookie(handler):
    handler.send_response(200)
    handler.send_header("set-cookie", "a=b")
    if handler.argument:
        handler.send_header("cache-control", handler.argument)
    handler.send_header("content-length", "0")
    handler.end_headers()

def flood(handler):
    line = "flood " * 20 + "\n"
    for _ in range(200000):
        sys.stdout.write(line)
    sys.stdout.flush()
    handler.answer("flooded")

def said(handler):
    """Log lines of every kind."""
    out = sys.stdout.buffer
    out.write(b"a plain line\n")
    out.write(b'{"severity": "ERROR", "message": "a structured line", "part": {"n": 7}, '
              b'"logging.googleapis.com/labels": {"k": "v"}, '
              b'"logging.googleapis.com/trace": "projects/demo/traces/0123456789abcdef0123456789abcdef"}\n')
    out.write(b"not \xff\xfe utf-8\n")
    out.write(b"long " + b"y" * 300000 + b" end\n")
    out.write(b"Traceback (most recent call last):\n  File \"x\", line 1\n")
    out.flush()
    sys.stderr.write("to stderr\n")
    sys.stderr.flush()
    handler.answer("said")

def zombies(handler):
    """Children of children that end without being waited for, as the first process is their heir."""
    for _ in range(20):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.wait()
    handler.answer("made")

def burn(handler):
    """Works on after the answer."""
    if os.fork() == 0:
        while True:
            pass
    handler.answer("burning")

def used(handler):
    """Processor time of this process and its children, in hundredths of a second."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
            except OSError:
                pass
    handler.answer(str(total))

WAYS = {way.__name__: way for way in
        [environment, headers, process, memory, bomb, leave, leave_halfway, slow, huge, streamed, cookie, flood, said, zombies, burn, used]}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        name, _, self.argument = self.path.strip("/").partition("?")
        if name == "ready":
            passes = self.headers.get("x-probe") == "startup" and time.time() > BORN + 0.3
            self.answer("ready" if passes else "not yet", 200 if passes else 503)
        elif name in WAYS:
            WAYS[name](self)
        else:
            self.answer("hello")

    def do_POST(self):
        body = b""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(str(len(body)))

    def log_message(self, *args):
        pass

def leave_politely(*_):
    print("got SIGTERM", flush=True)
    os._exit(0)

BORN = time.time()
mode = os.environ.get("MODE", "")
if mode == "crash":
    print("crashing", flush=True)
    sys.exit(7)
if mode == "deaf":
    time.sleep(3600)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else leave_politely)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
