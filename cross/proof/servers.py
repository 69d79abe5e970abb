"""The least of a DNS server and of an MQTT broker that a machine with nothing but a kernel needs around it."""

import socket
import ssl
import struct
import threading


def serve(accept):
    """Calls `accept` again and again in a thread of its own, until its socket is closed."""

    def loop():
        while True:
            try:
                accept()
            except OSError:
                return

    threading.Thread(target=loop, daemon=True).start()


class NameServer:
    """Answers on 127.0.0.1:53, where musl asks without /etc/resolv.conf: `name` is 127.0.0.1, no other is known."""

    def __init__(self, name):
        self.name, self.asked = name, set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        serve(self._answer)

    def _answer(self):
        query, client = self.socket.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
        self.asked.add(".".join(labels))
        known, is_a = ".".join(labels) == self.name, kind == 1
        # RFC 1035 section 4.1: a response, recursive, with NXDOMAIN (3) for what is not known.
        flags = 0x8180 | (0 if known else 3)
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1]) if known and is_a else b""
        counts = struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
        self.socket.sendto(query[:2] + counts + question + answer, client)

    def close(self):
        self.socket.close()


class Broker:
    """Speaks MQTT 5, with TLS if there is a certificate: it takes each client in, and sends it one message of QoS 1."""

    def __init__(self, port, certificate_and_key=None):
        self.tls = None
        if certificate_and_key:
            self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.tls.load_cert_chain(*certificate_and_key)
        self.listener = socket.create_server(("127.0.0.1", port))
        serve(self._accept)

    def _accept(self):
        client, _ = self.listener.accept()
        threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _converse(self, client):
        try:
            with self.tls.wrap_socket(client, server_side=True) if self.tls else client as stream:
                reader = stream.makefile("rb")
                while packet := read_packet(reader):
                    stream.sendall(self._answer(*packet))
        except OSError:
            pass  # a client that does not trust this server hangs up

    def _answer(self, kind, body):
        if kind == 1:  # CONNECT: CONNACK
            return bytes([0x20, 3, 0, 0, 0])
        if kind == 8:  # SUBSCRIBE: SUBACK, and a message
            topic = b"plant/line1"
            message = struct.pack(">H", len(topic)) + topic + b"\x00\x01\x00" + b'{"from":"the broker"}'
            return bytes([0x90, 4]) + body[:2] + bytes([0, 1, 0x32, len(message)]) + message
        if kind == 12:  # PINGREQ: PINGRESP
            return bytes([0xD0, 0])
        return b""


def read_packet(reader):
    """The kind and the body of the next MQTT packet. None: the stream is at its end."""
    first = reader.read(1)
    if not first:
        return None
    length = shift = 0
    while True:
        (digit,) = reader.read(1)
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return first[0] >> 4, reader.read(length)
