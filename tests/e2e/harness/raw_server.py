"""A model server that sends exactly these bytes, for what the scripted one would never say."""

import json
import re
import socket
import threading


class RawServer:
    """Reads a request, sends the answer to its model and closes."""

    def __init__(self, answers):
        """`answers`: {model: bytes}"""
        self.answers, self.requests = answers, []  # (request line, model)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed
                return
            with client:
                client.settimeout(10)
                client.sendall(self.answers.get(self._read(client), b""))

    def _read(self, client):
        request, missing = b"", 1
        while missing > 0:
            piece = client.recv(65536)
            if not piece:
                return None
            request += piece
            head, end, body = request.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            missing = int(length.group(1) if length else 0) - len(body) if end else 1
        model = json.loads(body)["model"] if body else None
        self.requests.append((head.split(b"\r\n")[0].decode("latin-1"), model))
        return model

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(10)
