"""An HTTP/1.1 client on a raw socket that keeps every byte and when it arrived.

It is strict where the contract is strict, and it can misbehave: send halves, not read, reset.
"""

import json
import socket
import ssl
import struct
import time


class Closed(Exception):
    """The server closed or reset the connection before what was awaited."""


class Response:
    def __init__(self, status, reason, headers, raw_head):
        self.status, self.reason = status, reason
        self.headers = headers  # lower-case name -> value; repeated ones joined by ", "
        self.raw_head = raw_head
        self.body = b""

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:300]!r}>"


class Connection:
    def __init__(self, address, *, timeout=15.0, receive_buffer=None, certificate=None):
        """`certificate`: the file that a TLS server is trusted by."""
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((host.strip("[]"), int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if certificate is not None:
            context = ssl.create_default_context(cafile=certificate)
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
        self.host = address
        self.buffer = b""  # received, not yet consumed
        self.reads = []  # (time, bytes) of every read
        self.ended = None  # None: open, "fin" or "rst"

    # ---- sending

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method, path, *, headers=None, body=None):
        """Sends one well-formed request in one write."""
        fields = {"Host": self.host}
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(body))
        fields.update(headers or {})
        head = f"{method} {path} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        self.send(head.encode("latin-1") + b"\r\n" + (body or b""))

    # ---- receiving

    def receive(self):
        """One read. False when the connection has ended."""
        if self.ended:
            return False
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            self.ended = "rst"
            return False
        if not data:
            self.ended = "fin"
            return False
        self.reads.append((time.monotonic(), data))
        self.buffer += data
        return True

    def _until(self, mark):
        while mark not in self.buffer:
            if not self.receive():
                raise Closed(f"{self.ended} after {self.buffer!r}")
        part, self.buffer = self.buffer.split(mark, 1)
        return part + mark

    def _exactly(self, count):
        while len(self.buffer) < count:
            if not self.receive():
                raise Closed(f"{self.ended} after {len(self.buffer)} of {count} bytes")
        part, self.buffer = self.buffer[:count], self.buffer[count:]
        return part

    def read_head(self):
        raw = self._until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        headers = {}
        for line in lines[1:-2]:
            name, value = line.split(":", 1)
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Response(int(status), reason, headers, raw)

    def chunks(self):
        """The chunks of a chunked body; returns after the last one, raises Closed on a cut."""
        while True:
            size = int(self._until(b"\r\n")[:-2].split(b";")[0], 16)
            data = self._exactly(size)
            end = self._exactly(2)
            assert end == b"\r\n", end
            if size == 0:
                return
            yield data

    def read_response(self, *, head_only=False):
        """A whole response."""
        response = self.read_head()
        if head_only or response.status in (204, 304):
            return response
        if response.headers.get("transfer-encoding") == "chunked":
            response.body = b"".join(self.chunks())
        elif "content-length" in response.headers:
            response.body = self._exactly(int(response.headers["content-length"]))
        else:
            while self.receive():
                pass
            response.body, self.buffer = self.buffer, b""
        return response

    def read_all(self):
        """Everything until the server closes."""
        while self.receive():
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    # ---- ending

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
